"""Text, tables and JSON in files of unknown quality: an error names the file, the line, the value and what to do."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from extract.errors import InputError
from pipelines.notes import shown

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"
T = TypeVar("T")


def read_text(path: Path, expected: str) -> str:
    """The whole file, decoded from UTF-8 (with or without a byte order mark); ``expected`` is what it should be.

    Raises:
        InputError: it cannot be read, is not text, or not in UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; expected {expected}, in UTF-8."
            " Save the file as UTF-8, or is it not text at all?"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, line {line}: a zero byte, so this is no text; expected {expected}")
    return text


@dataclass(frozen=True, slots=True, eq=False)
class JsonFile:
    """A JSON file and its text, so that errors can name lines. ``repeated``: keys that one object has twice or more;
    the last of them counts, as in every JSON reader.
    """

    path: Path
    text: str
    root: Any
    repeated: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, expected: str) -> "JsonFile":
        """Read ``path``.

        Raises:
            InputError: not readable, not UTF-8, or not JSON.
        """
        text = read_text(path, expected)
        repeated: list[str] = []

        def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs):
                keys = [key for key, _ in pairs]
                repeated.extend(key for key in found if keys.count(key) > 1)
            return found

        try:
            root = json.loads(text, object_pairs_hook=collect)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {error.lineno}, column {error.colno}: {_excerpt(text, error.pos)} ({error.msg});"
                f" expected JSON, {expected}. Correct the file"
            ) from error
        except ValueError as error:  # a whole number of thousands of digits
            raise InputError(f"{path}: {error}; expected JSON, {expected}. Correct the file") from error
        except RecursionError as error:
            raise InputError(f"{path}: nested too deep to be read; expected JSON, {expected}") from error
        return cls(path, text, root, tuple(repeated))

    def wrong(self, keys: Sequence[str | int], value: object, expected: str) -> InputError:
        """An error about the value at ``keys`` (names in objects, places in lists)."""
        line = _line_of(self.text, keys)
        at = "" if line is None else f", line {line}"
        where = " → ".join(f"{key!s:.80}" for key in keys)
        return InputError(
            f"{self.path}{at}: {where or 'the file'} is {said(value)}; expected {expected}. Correct the file"
        )


def said(value: object) -> str:
    """A value in an error: "missing" for None, and never longer than a line."""
    if value is None:
        return "missing"
    if isinstance(value, dict | list) and len(value) > 4:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return f"{value!r:.80}"


def number(value: object) -> float | None:
    """``value`` as a finite float; None where it is none (text and truth values are none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def read_rows(
    path: Path, parse: Callable[[list[str]], T], expected: str, *, delimiter: str = ",", quoted: bool = True
) -> list[T]:
    """Every row of a table that is not blank, as ``parse`` makes it of its cells (without spaces around them).

    ``quoted``: a cell may stand in quotes; else these are characters like others.

    ``parse`` raises ValueError for cells that are no such row.

    Raises:
        InputError: the file cannot be read, or rows are refused: how many, the first lines and what they hold.
    """
    rows: list[T] = []
    bad: list[str] = []
    for line, cells in table(path, expected, delimiter=delimiter, quoted=quoted):
        try:
            rows.append(parse(cells))
        except (ValueError, IndexError, OverflowError) as error:
            bad.append(f"line {line} ({delimiter.join(cells)!r:.60}: {error})")
    if bad:
        raise InputError(
            f"{path}: {len(bad)} of {len(bad) + len(rows)} rows cannot be read: {shown(bad)}; expected {expected}."
            " Correct the file"
        )
    return rows


def table(path: Path, expected: str, *, delimiter: str = ",", quoted: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the lines on which they end, without spaces around the cells.

    Raises:
        InputError: the file cannot be read, or a cell has no end.
    """
    reader = csv.reader(
        io.StringIO(read_text(path, expected), newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; expected {expected}") from error


def finite(cell: str) -> float:
    """A cell as a number.

    Raises:
        ValueError: it is none, or not finite.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        _refuse(f"{cell!r:.40} is no finite number")
    return value


def _refuse(what: str) -> NoReturn:
    raise ValueError(what)


def _excerpt(text: str, at: int) -> str:
    """What stands at a place, in a few characters."""
    if at >= len(text):
        return "the file ends"
    return f"{text[at : at + 20].splitlines()[0]!r}" if text[at] not in "\r\n" else "the line ends"


def _line_of(text: str, keys: Sequence[str | int]) -> int | None:
    """The line on which the value at ``keys`` begins; None where there is no such value."""
    at = _skip(text, 0, _SPACE)
    for key in keys:
        found = _member(text, at, key)
        if found is None:
            break
        at = found
    else:
        return text.count("\n", 0, at) + 1
    return text.count("\n", 0, at) + 1 if at else None


def _member(text: str, at: int, key: str | int) -> int | None:
    """Where the member ``key`` of the object or list at ``at`` begins."""
    last = None
    opened, at, place = text[at], _skip(text, at + 1, _SPACE), 0
    while at < len(text) and opened in "{[" and text[at] not in "}]":
        name: str | int = place
        if opened == "{":
            name, at = _DECODER.raw_decode(text, at)
            at = _skip(text, at, _SPACE + ":")
        if name == key:
            last = at
            if opened == "[":
                break
        at = _skip(text, _DECODER.raw_decode(text, at)[1], _SPACE + ",")
        place += 1
    return last


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at
