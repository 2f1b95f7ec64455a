"""What people see while a command works: progress on stderr, as a bar on a terminal, as plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_EVERY_S = 5.0

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class Meter:
    """Progress of one piece of work: a share done, words about it, and the time left.

    A context manager. ``quiet`` shows nothing. On a terminal a bar; elsewhere a line every few seconds.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title, self._quiet = title, quiet
        self._began = self._said = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> "Meter":
        if not self._quiet and err.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
            self._bar = Progress(*columns, console=err, transient=True)
            self._bar.start()
            self._bar.add_task(self._title, total=1.0, words="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, share: float, words: str) -> None:
        """``share`` of the work (0..1) is done; ``words`` say more."""
        now = time.monotonic()
        elapsed_s = now - self._began
        left = f"{duration(elapsed_s / share * (1 - share))} left" if share > 0 else "time left unknown"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=share, words=f"{words} · {left}")
        elif not self._quiet and now - self._said >= LINE_EVERY_S:
            self._said = now
            err.print(f"{self._title}: {share:.0%} · {words} · {left}", markup=False)


def duration(seconds: float) -> str:
    """``seconds`` as people say it: "8 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(seconds: float) -> str:
    """``seconds`` as a player shows them, with tenths: "0:08.0", "2:10:05.3"."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


def complain(message: str) -> None:
    """An error or warning on stderr, as it is."""
    err.print(message, markup=False)
    sys.stderr.flush()
