"""Decoded clips: found again, and made again where files, clips or the folder itself are no longer what they were."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from footage import encode, regular
from numpy.typing import NDArray

from extract.errors import InputError, MachineError, WorkerDiedError
from pipelines.pretraining import worlds
from pipelines.pretraining.examples import Example
from pipelines.pretraining.pool import Labelled, Looks, Pool, pool_from, pool_of
from pipelines.synthetic.scene import Scene

LOOKS = Looks(25.0, 16)


def numbered(number: int) -> Labelled:
    return np.full((2, 2, 3, 3), number, np.uint8), np.eye(2, dtype=np.float32)[number % 2]


def pool(folder: Path, read: Callable[[int], Labelled] = numbered, clips: int = 3) -> tuple[Pool, list[int]]:
    """The clips, and which were read for them."""
    seen: list[int] = []

    def counted(number: int) -> Labelled:
        seen.append(number)
        return read(number)

    return pool_from("key", range(clips), counted, folder, 1, lambda _done, _total: None), seen


def grey(level: int) -> Callable[[int], NDArray[np.uint8]]:
    return lambda _index: np.full((64, 96, 3), level, np.uint8)


def test_clips_are_read_once_and_named(tmp_path: Path) -> None:
    first, seen = pool(tmp_path)
    again, seen_again = pool(tmp_path)
    assert (seen, seen_again) == ([0, 1, 2], [])
    assert first.names == again.names == ("0", "1", "2")
    assert first.digest == again.digest
    other, _ = pool(tmp_path / "other", lambda number: numbered(number + 2 * (number == 1)))
    assert other.digest != first.digest
    assert [path.is_dir() for path in tmp_path.iterdir()] == [True, True], "the clips and the other folder alone"


def test_a_replaced_video_is_read_again(tmp_path: Path) -> None:
    example = Example(tmp_path / "a.mp4", "red", "training")
    levels = []
    for level in (40, 200):
        encode(example.path, regular(4), picture=grey(level))
        os.utime(example.path, ns=(level, level))
        levels.append(pool_of([example], ["red"], LOOKS, tmp_path / "pool").clip(0).mean())
    assert levels[1] - levels[0] > 100


def test_a_clip_that_failed_once_is_tried_again(tmp_path: Path) -> None:
    broken, seen = pool(tmp_path, lambda number: "1: no space" if number == 1 else numbered(number))
    assert (broken.names, broken.failed, seen) == (("0", "2"), ("1: no space",), [0, 1, 2])
    still, seen = pool(tmp_path, lambda _number: "1: no space")
    assert (still.names, still.failed, seen) == (("0", "2"), ("1: no space",), [1])
    mended, _ = pool(tmp_path)
    assert (mended.names, mended.failed) == (("0", "1", "2"), ())
    assert mended.clip(1).max() == 1
    assert broken.clip(1).max() == 2, "who reads the old ones goes on"


def test_clips_that_are_not_whole_are_made_again(tmp_path: Path) -> None:
    pool(tmp_path)
    (pixels,) = tmp_path.glob("*/pixels.bin")
    index = pixels.with_name("index.json")
    for spoil in (lambda: os.truncate(pixels, 7), pixels.unlink, lambda: index.write_text("{")):
        spoil()
        made, seen = pool(tmp_path)
        assert seen == [0, 1, 2]
        assert made.clip(2).min() == 2


def test_two_trainings_at_once_do_not_destroy_each_others_clips(tmp_path: Path) -> None:
    inner: list[Pool] = []

    def slow(number: int) -> Labelled:
        if number == 1 and not inner:
            inner.append(pool(tmp_path)[0])
        return numbered(number)

    outer, _ = pool(tmp_path, slow)
    for each in (outer, *inner):
        assert [int(each.clip(number).max()) for number in range(3)] == [0, 1, 2]
    assert len([*tmp_path.iterdir()]) == 1


def test_what_killed_trainings_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    for name in (".unfinished-dead", ".unfinished-alive"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    with (tmp_path / ".unfinished-alive/lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pool(tmp_path)
    assert [path.name for path in tmp_path.glob(".unfinished-*")] == [".unfinished-alive"]


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    def died(_number: int) -> Labelled:
        raise WorkerDiedError("the decoder ended")

    with pytest.raises(MachineError, match="the decoder ended"):
        pool(tmp_path / "died", died)
    with pytest.raises(InputError, match="not one of 3 clips can be read; first: 0: torn"):
        pool(tmp_path / "torn", lambda number: f"{number}: torn")
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="name another --cache"):
        pool(tmp_path / "file")


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"a process that decodes ended while 0 was next; .* fewer --workers"):
        pool_from("key", range(8), os._exit, tmp_path, 2, lambda _done, _total: None)


def test_another_version_draws_its_own_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def drawing(seed: int) -> tuple[Scene, NDArray[np.float32]]:
        drawn.append(seed)
        return worlds.draw(seed, single=True)

    def make() -> None:
        worlds.world_pool(range(1), LOOKS, tmp_path, drawing, name="x", workers=1, on_clip=lambda _done, _total: None)

    make()
    make()
    assert drawn == [0]
    monkeypatch.setattr(worlds, "version", lambda _name: "99")
    make()
    assert drawn == [0, 0]
