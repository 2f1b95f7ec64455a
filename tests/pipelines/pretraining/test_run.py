"""A pretraining goes on with the clips and weights that it began with alone, and says what is wrong in its end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from footage import H, W, encode, regular
from shades import film_grey

from extract.backbones import backbone_spec, load_backbone
from extract.backbones.described import described_bytes
from extract.errors import InputError, UsageError
from pipelines.pretraining import pretrain, pretrain_settings
from pipelines.pretraining.fusing import fuse
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


def test_videos_that_are_not_there_end_with_4(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = ["dark,dark/a.mp4,0,1,train", "light,light/a.mp4,0,1,train", "dark,gone,0,1,train"]
    (tmp_path / "k.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]))
    arguments = [NETWORK, tmp_path / "k.csv", "--videos", clips / "train", "-o", tmp_path / "run"]
    assert run(monkeypatch, "pretrain", *arguments, "--set", "epochs=1", "--set", "fps=25") == 4
    assert "1 videos are not there, or more than once: gone" in capfd.readouterr().out


def test_a_class_of_which_nothing_can_be_read_is_named(clips: Path, tmp_path: Path) -> None:
    (clips / "train/grey").mkdir()
    (clips / "train/grey/a.mp4").write_bytes(b"no video")
    record = pretrain(NETWORK, clips, out=tmp_path / "run", settings=SETTINGS)
    assert record["notes"] == ["never seen, for no clip can be read: grey"]
    for name in "ab":
        (clips / f"train/dark/{name}.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"no clip for training of dark, grey can be read; first: .*mp4"):
        pretrain(NETWORK, clips, out=tmp_path / "other", settings=SETTINGS)


def test_a_damaged_clip_is_named_and_not_learnt_from(clips: Path, tmp_path: Path) -> None:
    path = clips / "train/dark/a.mp4"
    encode(path, regular(100), picture=lambda index: np.full((H, W, 3), index, np.uint8))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + len(data) // 3
    data[start : start + 400] = bytes(400)
    path.write_bytes(data)
    record = pretrain(NETWORK, clips, out=tmp_path / "run", settings=SETTINGS)
    assert record["training_clips"] == 3
    assert len(record["failed"]) == 1
    assert "a.mp4: damaged (" in record["failed"][0]


def test_a_folder_of_the_name_worlds_is_not_passed_over(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clips.rename("worlds")
    with pytest.raises(UsageError, match=r"worlds means made worlds, .*/worlds too; write that whole path"):
        pretrain(NETWORK, "worlds", out="run", settings=SETTINGS)
    assert pretrain(NETWORK, "./worlds", out="run", settings=SETTINGS)["classes"] == ["dark", "light"]


def test_weights_know_the_size_that_worlds_were_drawn_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = pretrain_settings({"epochs": 1, "batch": 4, "test_clips": 1, "examples": 8})
    pretrain("frames:small:1x64", "worlds", out="run", settings=settings)
    clips = load_backbone("frames:small:1x64", "run/weights.safetensors").spec.clips
    assert clips.short_side_px == clips.crop_px == 64
    (tmp_path / "worlds").mkdir()
    assert fuse(["run", "run"])["validation_clips"] > 0, "the run says which worlds are meant"


def test_places_and_seeds_that_cannot_be_are_refused_before_any_work(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--cache run/clips lies in the run's own folder"):
        pretrain(NETWORK, clips, out="run", cache="run/clips", settings=SETTINGS)
    with pytest.raises(UsageError, match="exists and is not a run"):
        pretrain(NETWORK, clips, out=".", settings=SETTINGS)
    with pytest.raises(UsageError, match="seed is -1; expected 0 or more"):
        pretrain(NETWORK, clips, out="run", seed=-1, settings=SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    pretrain(NETWORK, clips, out="link", settings=SETTINGS)
    assert (tmp_path / "empty/weights.safetensors").exists()


def test_one_clip_a_step_is_too_few_for_batch_norm(clips: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch": 1})
    with pytest.raises(UsageError, match="one value a channel to learn from in steps of 1 clips; expected two or more"):
        pretrain("frames:resnet18:1x32", clips, out=tmp_path / "run", settings=settings)


def test_settings_are_given_as_text() -> None:
    assert pretrain_settings({"test_crops": "3"}).test_crops == 3
    for text in ("2", "three"):
        with pytest.raises(UsageError, match="test_crops"):
            pretrain_settings({"test_crops": text})
    for name in ("flow_bound_px", "fps", "lr", "weight_decay"):
        with pytest.raises(UsageError, match=name):
            pretrain_settings({name: "inf"})


def test_a_state_that_cannot_be_read_is_told(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.resume.EVERY_S", 0.0)
    interrupted(clips, tmp_path / "run")
    state = tmp_path / ".run.training/state.pt"
    whole = state.read_bytes()
    for cut in (b"", whole[: len(whole) // 2]):
        state.write_bytes(cut)
        with pytest.raises(UsageError, match=r"state.pt: cannot be read .* remove .*\.run\.training to begin again"):
            pretrain(NETWORK, clips, out=tmp_path / "run", settings=SETTINGS)
