import torch

from seqmodels.standardise import Standardise, TemporalComponents


def videos(count: int, n_steps: int, *, lasting: float, background: float) -> list[torch.Tensor]:
    """Unit noise in 6 features; feature 0 keeps a value for 4 steps, feature 1 one for the whole video."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        video = torch.randn(n_steps, 6, generator=generator)
        event = torch.randn(-(-n_steps // 4), generator=generator).repeat_interleave(4)
        video[:, 0] += lasting * event[:n_steps]
        video[:, 1] += background * torch.randn(1, generator=generator)
        made.append(video)
    return made


def test_standardises_and_keeps_constant_features_finite() -> None:
    steps = torch.stack([torch.arange(4.0), torch.full((4,), 7.0)], dim=1)
    layer = Standardise(2)
    layer.fit([steps[:1], steps[1:]])
    result = layer(steps)
    torch.testing.assert_close(result.mean(dim=0), torch.zeros(2))
    torch.testing.assert_close(result[:, 0].std(correction=0), torch.tensor(1.0))
    assert result[:, 1].abs().max() == 0


def test_first_component_is_what_lasts_a_few_steps_not_the_background() -> None:
    layer = TemporalComponents(6, 2)
    layer.fit(videos(40, 20, lasting=2.0, background=5.0))
    share = layer.basis[:, 0].square() / layer.basis[:, 0].square().sum()
    assert share[0] > 0.95


def test_videos_of_one_step_give_principal_components() -> None:
    layer = TemporalComponents(6, 2)
    layer.fit(videos(200, 1, lasting=0.0, background=0.0))
    assert torch.isfinite(layer.basis).all()
    assert layer(torch.zeros(3, 1, 6)).shape == (3, 1, 2)
