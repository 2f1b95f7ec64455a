"""Streams are fused where they are of the same clips, those that they were trained on, and refused elsewhere."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from shades import film_grey

from extract.errors import InputError
from pipelines.pretraining import pretrain, pretrain_settings
from pipelines.pretraining.fusing import fuse

SETTINGS = pretrain_settings({"epochs": 1, "batch": 4, "fps": 25, "test_clips": 1})


def trained(clips: Path, out: Path) -> Path:
    pretrain("frames:small:1x32", clips, out=out, settings=SETTINGS)
    return out


def rename(folder: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda clips: shutil.move(clips / folder / old, clips / folder / new)


def swap(clips: Path) -> None:
    """A clip that was trained on is held out now."""
    film_grey(clips / "train/dark/a.mp4", 60)
    shutil.move(clips / "train/dark/a.mp4", clips / "aside.mp4")
    shutil.move(clips / "val/dark/c.mp4", clips / "train/dark/a.mp4")
    shutil.move(clips / "aside.mp4", clips / "val/dark/c.mp4")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename("train", "dark/b.mp4", "dark/z.mp4"), r"trained on other clips .*/b.mp4 \(dark\), train/dark/z.mp4"),
        (rename("val", "dark/c.mp4", "dark/z.mp4"), r"tested on other clips .*/c.mp4 \(dark\), val/dark/z.mp4"),
        (rename("train", "dark", "grey"), "other tells grey, light apart, .*first dark, light; expected runs on"),
    ],
    ids=["training", "held out", "classes"],
)
def test_runs_on_other_clips_are_refused(
    clips: Path, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    first = trained(clips, tmp_path / "first")
    shutil.copytree(clips, tmp_path / "moved")
    assert fuse([first, trained(tmp_path / "moved", tmp_path / "same")])["validation_clips"] == 2
    change(tmp_path / "moved")
    with pytest.raises(InputError, match=told):
        fuse([first, trained(tmp_path / "moved", tmp_path / "other")])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rename("train", "dark", "black"), r"the classes dark, light; in .*clips there are now black, light\. Put"),
        (lambda clips: (clips / "train/dark/a.mp4").unlink(), "trained on 4 clips and tested on 2; .* now 3 and 2"),
        (lambda clips: film_grey(clips / "val/dark/d.mp4", 9), "trained on 4 clips and tested on 2; .* now 4 and 3"),
        (swap, r"was trained or tested on other clips than those that are now in .*clips\. Put"),
        (lambda clips: film_grey(clips / "val/dark/c.mp4", 9), "was trained or tested on other clips than those"),
    ],
    ids=["classes", "fewer", "more", "swapped", "replaced"],
)
def test_clips_that_are_no_longer_those_of_the_run_are_refused(
    clips: Path, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    run = trained(clips, tmp_path / "run")
    change(clips)
    with pytest.raises(InputError, match=told):
        fuse([run, run])
