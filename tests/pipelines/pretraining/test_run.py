"""A pretraining goes on with the clips and weights that it began with alone, and says what is wrong in its end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from shades import film_grey

from extract.backbones import backbone_spec
from extract.backbones.described import described_bytes
from extract.errors import InputError, UsageError
from pipelines.pretraining import pretrain, pretrain_settings
from pipelines.pretraining.loop import Progress
from pipelines.pretraining.run import figures, new_network

NETWORK = "frames:small:1x32"
SETTINGS = pretrain_settings({"epochs": 2, "batch": 4, "fps": 25, "test_clips": 1})


def weights(path: Path, name: str, seed: int = 0) -> str:
    """A file that says that it holds weights of ``name``; they are those of another network."""
    torch.manual_seed(seed)
    spec = backbone_spec(NETWORK)
    path.write_bytes(described_bytes(spec.build(), name=name, clips=spec.clips, classes=["dark", "light"]))
    return str(path)


def interrupted(clips: Path, out: Path, init: str | None = None) -> None:
    def stop(at: Progress) -> None:
        if at.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(NETWORK, clips, out=out, init=init, settings=SETTINGS, on_progress=stop)


def rename(clips: Path) -> None:
    (clips / "train/dark/a.mp4").rename(clips / "train/dark/z.mp4")


def break_one(clips: Path) -> None:
    (clips / "train/dark/a.mp4").write_bytes(b"no video")


def replace_one(clips: Path) -> None:
    film_grey(clips / "val/light/c.mp4", 150)


def add_class(clips: Path) -> None:
    film_grey(clips / "train/grey/a.mp4", 128)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename, "training_sha256: '.*' then, '.*' now"),
        (break_one, "training_clips: 4 then, 3 now"),
        (replace_one, "validation_sha256: '.*' then, '.*' now"),
        (add_class, r"classes: \['dark', 'light'\] then, \['dark', 'grey', 'light'\] now"),
    ],
    ids=["renamed", "broken", "replaced", "another class"],
)
def test_a_training_does_not_go_on_with_other_clips(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], told: str
) -> None:
    monkeypatch.setattr("pipelines.resume.EVERY_S", 0.0)
    interrupted(clips, tmp_path / "run")
    change(clips)
    with pytest.raises(UsageError, match=rf"(?s)another training .* interrupted:.*{told}.*another -o, or remove"):
        pretrain(NETWORK, clips, out=tmp_path / "run", settings=SETTINGS)


def test_a_training_does_not_go_on_from_other_weights_or_settings(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.resume.EVERY_S", 0.0)
    init = weights(tmp_path / "w.safetensors", NETWORK)
    interrupted(clips, tmp_path / "run", init)
    weights(tmp_path / "w.safetensors", NETWORK, seed=1)
    read: list[int] = []
    for settings, told in ((SETTINGS, "init_sha256: "), (SETTINGS.model_copy(update={"fps": 5.0}), "fps: 25.0 then")):
        with pytest.raises(UsageError, match=told):
            pretrain(
                NETWORK,
                clips,
                out=tmp_path / "run",
                init=init,
                settings=settings,
                on_clip=lambda done, _total: read.append(done),
            )
    assert not read, "it is said before clips are read"
    weights(tmp_path / "w.safetensors", NETWORK)
    record = pretrain(NETWORK, clips, out=tmp_path / "run", init=init, settings=SETTINGS)
    assert (record["training_clips"], record["validation_clips"]) == (4, 2)


@pytest.mark.parametrize(
    ("held", "network"),
    [
        ("frames:vgg11_bn", "slow:vgg11:4x32"),
        ("frames:small:1x32", "slow:vgg11:4x32"),
        ("slow:small:8x32", "c3d:small"),
        ("frames:small:1x32:flow", "slow:small:8x32"),
    ],
)
def test_weights_of_another_image_network_are_refused(tmp_path: Path, held: str, network: str) -> None:
    init = weights(tmp_path / "w.safetensors", held)
    trunk = network.split(":")[1]
    with pytest.raises(
        InputError, match=rf"w.safetensors holds weights of {held}; expected .*{network} or frames:{trunk}"
    ):
        new_network(network, backbone_spec(network), 2, init)


def test_scores_that_are_no_numbers_are_no_accuracy() -> None:
    found = np.array([[np.nan, np.nan], [0.25, 0.75]], np.float32)
    with pytest.raises(UsageError, match=r"scores of 1 of 2 clips are no numbers: .* Train again with a lower lr"):
        figures(found, np.array([0, 1]), ["a", "b"])
    margins = np.array([[-np.inf, 1.0]], np.float32)  # of a class that an SVM never saw
    assert figures(margins, np.array([1]), ["a", "b"])["accuracy"] == 1.0


def test_clips_that_cannot_be_read_are_named_and_end_with_4(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    break_one(clips)
    (clips / "val/light/c.mp4").write_bytes(b"no video")
    arguments = [NETWORK, clips, "-o", tmp_path / "run", "--set", "epochs=1", "--set", "fps=25"]
    assert run(monkeypatch, "pretrain", *arguments) == 4
    assert (tmp_path / "run/weights.safetensors").exists()
    trained = capfd.readouterr().out
    assert run(monkeypatch, "fuse", tmp_path / "run", tmp_path / "run") == 4
    for shown in (trained, capfd.readouterr().out):
        assert all(shown.count(f"{name}:") == 1 for name in ("train/dark/a.mp4", "val/light/c.mp4"))
