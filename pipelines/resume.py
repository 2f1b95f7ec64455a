"""What an interrupted training left, so that the same command goes on to the same result."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from extract.errors import UsageError
from pipelines.whole import written_whole

EVERY_S = 10.0
KEY_FILE, STATE_FILE = "training.json", "state.pt"


class Loop(Protocol):
    """A training between two epochs."""

    epoch: int
    device: torch.device

    def state(self) -> dict[str, Any]:
        """Plain values and tensors."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""


class Resume:
    """The state of a training beside the folder ``out`` that it will become.

    ``key`` is what the training's result depends on: a state that another one left is not gone on with.

    Raises:
        UsageError: another training was interrupted there, or it cannot be told which.
    """

    def __init__(self, out: Path, key: Mapping[str, object]) -> None:
        self._folder = out.parent / f".{out.name}.training"
        self._key = json.loads(json.dumps(key))
        self._saved = time.monotonic()
        if self._folder.exists():
            self._check()

    def load(self, loop: Loop) -> int:
        """Bring ``loop`` to where the interrupted training was; how many epochs that had done."""
        path = self._folder / STATE_FILE
        if path.exists():
            try:
                loop.restore(torch.load(path, map_location=loop.device, weights_only=True))
            except (EOFError, KeyError, RuntimeError, UnpicklingError) as error:
                raise UsageError(
                    f"{path}: cannot be read ({error!r:.200}), so the interrupted training cannot go on; remove "
                    f"{self._folder} to begin again"
                ) from error
        return loop.epoch

    def save(self, loop: Loop) -> None:
        """Keep the state, at most every few seconds.

        Raises:
            MachineError: it cannot be written.
        """
        if time.monotonic() - self._saved < EVERY_S:
            return
        with written_whole(self._folder / KEY_FILE, "free space") as fresh:
            fresh.write_text(json.dumps(self._key), "utf-8")
        with written_whole(self._folder / STATE_FILE, "free space") as fresh:
            torch.save(loop.state(), fresh)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The training has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self) -> None:
        if not (self._folder / STATE_FILE).exists():  # stopped before anything was kept
            return
        lines = "\n  ".join(_differences(_read(self._folder / KEY_FILE), self._key))
        if lines:
            raise UsageError(
                f"another training to this place was interrupted:\n  {lines}\n"
                f"Go on with that one, choose another -o, or remove {self._folder}"
            )


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """A line for each value that differs, also within ``settings``."""
    for name in ours:
        then, now = theirs.get(name), ours[name]
        if isinstance(then, dict) and isinstance(now, dict):
            yield from _differences(then, now)
        elif then != now:
            yield f"{name}: {then!r:.200} then, {now!r:.200} now"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        found = error
    if not isinstance(found, dict):
        raise UsageError(
            f"{path}: cannot be read ({found!r:.200}), so nobody can tell whether the training that was interrupted "
            f"there is this one; expected its settings as JSON. Choose another -o, or remove {path.parent}"
        )
    return found
