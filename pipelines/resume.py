"""What an interrupted training left, so that the same command goes on to the same result."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from extract.errors import MachineError, UsageError
from pipelines.fitting import Loop

EVERY_S = 10.0
KEY_FILE, STATE_FILE = "training.json", "state.pt"


class Resume:
    """The state of a training beside the folder ``out`` that it will become.

    ``key`` is what the training's result depends on: a state that another one left is not gone on with.

    Raises:
        UsageError: another training was interrupted there.
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
            loop.restore(torch.load(path, map_location=loop.device, weights_only=True))
        return loop.epoch

    def save(self, loop: Loop) -> None:
        """Keep the state, at most every few seconds.

        Raises:
            MachineError: it cannot be written.
        """
        if time.monotonic() - self._saved < EVERY_S:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / KEY_FILE).write_text(json.dumps(self._key), "utf-8")
            fresh = self._folder / f"{STATE_FILE}.partial"
            torch.save(loop.state(), fresh)
            fresh.replace(self._folder / STATE_FILE)
        except OSError as error:
            raise MachineError(f"{self._folder}: cannot be written ({error.strerror}); free space") from error
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The training has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self) -> None:
        theirs = _read(self._folder / KEY_FILE)
        differing = [name for name in self._key if theirs.get(name) != self._key[name]]
        if differing:
            lines = "\n  ".join(
                f"{name}: {theirs.get(name)!r:.200} then, {self._key[name]!r:.200} now" for name in differing
            )
            raise UsageError(
                f"another training to this place was interrupted:\n  {lines}\n"
                f"Go on with that one, choose another -o, or remove {self._folder}"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
