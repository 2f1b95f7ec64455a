"""Where units of work are done: in this process, in others of this machine, or on any Dask cluster.

Only this package knows Dask. A worker gives receipts back, never arrays. Nothing lives only in the scheduler: what
the store's log does not have is done again by the next run.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from extract.errors import UsageError
from extract.job._here import HereCrew
from extract.worker import Setup, Unit, UnitResult

__all__ = ["Crew", "Crewing", "crew"]

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Crewing:
    """Where the work is done; by default in this process.

    ``workers``: so many processes of this machine, or workers of the cluster of a file (0: what the file says).
    ``scheduler``: address or scheduler file of a Dask scheduler, whose workers do it. ``cluster``: a YAML file.
    """

    workers: int = 0
    scheduler: str | None = None
    cluster: str | Path | None = None


class Crew(Protocol):
    """Those who do the work. ``notes`` are sentences that the user should see."""

    notes: tuple[str, ...]

    @property
    def slots(self) -> int:
        """How many units can be done at once, now."""

    def call(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """``function(*arguments)``, done once where the work will be done."""

    def run(self, setup: Setup, units: Iterable[Unit], on_clips: Callable[[int], None]) -> Iterator[UnitResult]:
        """Do all ``units``, which are taken as they are needed; results come in the order in which they are done.

        ``on_clips`` hears from time to time how many clips are new. The numbers add up to those of the results, so
        one is negative where work was lost. Whatever ends the iteration early stops what is still being done.

        Raises:
            MachineError: the work cannot go on; the message says what to do.
        """

    def drain(self) -> None:
        """Begin no other unit: `run` gives what is being done, and ends. For signal handlers and other threads."""


@contextmanager
def crew(crewing: Crewing, *, device: str = "cpu") -> Iterator[Crew]:
    """Get workers, and let go of them in the end. With ``device`` "cuda", own processes have one GPU each.

    Raises:
        UsageError: ``crewing`` cannot work.
        MachineError: there is no scheduler, or the workers cannot be started.
    """
    if crewing.workers < 0:
        raise UsageError(f"--workers {crewing.workers}; expected 0, to work in this process, or more")
    if crewing.scheduler is not None and crewing.cluster is not None:
        raise UsageError(f"--scheduler {crewing.scheduler} and --cluster {crewing.cluster}; expected one of them")
    if crewing.scheduler is None and crewing.cluster is None and crewing.workers == 0:
        with closing(HereCrew()) as here:
            yield here
        return
    from extract.job import _start  # Dask takes a second to import

    if crewing.scheduler is not None:
        start = _start.running_scheduler(crewing.scheduler)
    elif crewing.cluster is not None:
        start = _start.cluster_of_file(Path(crewing.cluster), crewing.workers)
    else:
        start = _start.own_processes(crewing.workers, device)
    with start as hands:
        yield hands
