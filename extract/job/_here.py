"""Units done in this process, one after the other."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from extract.worker import Setup, Unit, UnitResult, decoding_process, run_unit

Answer = TypeVar("Answer")


class HereCrew:
    """This process; it can do one unit at a time."""

    slots = 1
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._draining = False

    def call(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """``function(*arguments)``."""
        return function(*arguments)

    def run(
        self,
        setup: Setup,
        units: Iterable[Unit],
        on_clips: Callable[[int], None],
        *,
        work: Callable[[Setup, Unit, Callable[[int], None]], UnitResult] = run_unit,
    ) -> Iterator[UnitResult]:
        """Do the units in their order; errors are raised as they come."""
        for unit in units:
            if self._draining:
                return
            told = 0

            def tell(clips: int) -> None:
                nonlocal told
                told += clips
                on_clips(clips)

            result = work(setup, unit, tell)
            if result.clips != told:  # clips of a video that failed in its middle
                on_clips(result.clips - told)
            yield result

    def drain(self) -> None:
        """Begin no other unit."""
        self._draining = True

    def close(self) -> None:
        """End the decoding process."""
        decoding_process().close()
