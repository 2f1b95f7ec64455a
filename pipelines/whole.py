"""Files and folders that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extract.cache import room_beside
from extract.errors import InputError, MachineError, UntrimmedError, UsageError, VideoError


@contextmanager
def written_whole(output: Path, advice: str = "choose another place") -> Iterator[Path]:
    """A place with the name of ``output``, a file or a folder, which becomes it when all went well, and else vanishes.

    Nothing written there leaves ``output`` as it was. Errors that name the place name ``output`` instead.

    Raises:
        MachineError: it cannot be written; ends with ``advice``.
    """
    try:
        target = output.resolve()  # of a link what it names
        with room_beside(target) as room:
            place = room / target.name
            try:
                yield place
            except (UsageError, InputError, MachineError) as error:
                if isinstance(error, VideoError) or str(place) not in str(error):
                    raise
                raise type(error)(str(error).replace(str(place), str(output))) from error
            if place.exists():
                place.replace(target)
    except OSError as error:
        if isinstance(error, UntrimmedError):
            raise
        raise MachineError(f"{output} cannot be written ({error.strerror or error}); {advice}") from error
