"""Work for crews that needs no video: what is to happen stands in the path of each task.

Workers import this module by its name, which they cannot with a test file.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from extract.errors import DeviceLostError, MachineError
from extract.recipe import Recipe
from extract.worker import Failed, Setup, Task, Unit, UnitResult, _check_stop

CLIPS = 3  # of each task
DONE = "done"

SETUP = Setup(
    store="nowhere",
    recipe=Recipe(
        backbone="none",
        weights_sha256="0",
        layer="features",
        feature_width=1,
        clip_frames=1,
        frame_stride=1,
        hop=1,
        fps=1.0,
        short_side_px=1,
        crop_px=1,
        resize_kernel="none",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        precision="fp32",
    ),
    weights="none",
    device="cpu",
    engine="none",
    decoder="none",
    threads=1,
)


def toil(setup: Setup, unit: Unit, on_clips: Callable[[int], None]) -> UnitResult:
    """Tell of each task's clips, then do its path: "VERB" or "VERB ARGUMENT". What it says is its `Failed.detail`."""
    said: list[Failed] = []
    for task in unit.tasks:
        on_clips(CLIPS)
        verb, _, argument = task.path.partition(" ")
        said.append(Failed(task.video_id, task.fingerprint, DONE, VERBS[verb](argument, setup)))
    return UnitResult(None, tuple(said), CLIPS * len(said), video_s=0.0, decode_s=0.0, model_s=0.0, store_s=0.0)


def orders(*paths: str) -> list[Unit]:
    """One unit for each path; the videos are called "0", "1", …."""
    return [Unit((Task(str(at), path, "print", None),)) for at, path in enumerate(paths)]


def _rest(seconds: str, _setup: Setup) -> str:
    time.sleep(float(seconds or 0))
    return str(os.getpid())


def _span(seconds: str, setup: Setup) -> str:
    """When it began and ended, in a form that sorts."""
    began = time.monotonic()
    _rest(seconds, setup)
    return f"{began:020.6f} {time.monotonic():020.6f}"


def die(*_arguments: object) -> None:
    """In place of any work."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die(_argument: str, _setup: Setup) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def _die_once(marker: str, setup: Setup) -> str:
    """Die unless somebody did before."""
    if not Path(marker).exists():
        Path(marker).touch()
        _die("", setup)
    return str(os.getpid())


def _lose_gpu(_argument: str, _setup: Setup) -> str:
    raise DeviceLostError("the GPU fell off the bus")


def _lack_space(marker: str, _setup: Setup) -> str:
    """Once another unit has written ``marker``."""
    _wait_for(marker)
    raise MachineError("no space left for segments")


def _go_on(marker: str, setup: Setup) -> str:
    """Write ``marker``, go on until the job is stopped, then write ``marker`` with ".stopped"."""
    Path(marker).touch()
    while True:
        time.sleep(0.05)
        try:
            _check_stop(setup.job)
        except InterruptedError:
            Path(f"{marker}.stopped").touch()
            raise


def _hold(marker: str, _setup: Setup) -> str:
    """Write ``marker``, and go on until there is one with ".go"."""
    Path(marker).touch()
    _wait_for(f"{marker}.go")
    return str(os.getpid())


def _wait_for(marker: str) -> None:
    deadline = time.monotonic() + 30
    while not Path(marker).exists():
        assert time.monotonic() < deadline, f"{marker} never came"
        time.sleep(0.02)


def _fail(_argument: str, _setup: Setup) -> str:
    raise ZeroDivisionError("a mistake in the work")


def _environment(name: str, _setup: Setup) -> str:
    return os.environ.get(name, "")


VERBS: dict[str, Callable[[str, Setup], str]] = {
    "rest": _rest,
    "span": _span,
    "die": _die,
    "die-once": _die_once,
    "lose-gpu": _lose_gpu,
    "lack-space": _lack_space,
    "go-on": _go_on,
    "hold": _hold,
    "fail": _fail,
    "environment": _environment,
}
