"""Every exception of the project, in one small tree.

A message says what happened (with the value), what was expected, and what to do. ``exit_code`` is what the
command line returns when the exception reaches it.
"""

from pathlib import Path

from extract.urls import text_without_secrets, without_secrets


class UntrimmedError(Exception):
    """Root of all errors that this project raises on purpose."""

    exit_code = 1


class UsageError(UntrimmedError, ValueError):
    """An option or argument has a value that cannot work."""

    exit_code = 2


class InputError(UntrimmedError, ValueError):
    """The data given (a folder, an annotation file, a checkpoint) cannot be used."""

    exit_code = 3


class VideoError(InputError):
    """One video cannot be read. ``path`` names the file, ``reason`` is a stable short code; no URL has its secrets."""

    def __init__(self, path: str | Path, reason: str, detail: str) -> None:
        """Compose the message ``path: detail [reason]``; ``detail`` also says what to do."""
        self.path = without_secrets(str(path))
        self.reason = reason
        self.detail = text_without_secrets(detail, str(path))
        super().__init__(f"{self.path}: {self.detail} [{reason}]")

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str, str]]:
        """Pickle by the three arguments (exceptions cross process borders in a job)."""
        return (type(self), (self.path, self.reason, self.detail))


class StoreError(UntrimmedError, OSError):
    """A feature store cannot be read or written."""

    exit_code = 3


class RecipeMismatchError(StoreError):
    """Features of another recipe are in the store; the message shows the difference."""


class MachineError(UntrimmedError, OSError):
    """The machine lacks something: disk space, a permission, a device, a library."""

    exit_code = 3


class WorkerDiedError(MachineError):
    """A worker process ended in the middle of what it was asked for."""


class DeviceLostError(MachineError):
    """The GPU of this process answers nothing any more; another process may still use it."""
