"""Values of JSON and XML files that must be of a kind: each function returns the value, or says where a wrong one is.

XML is read without document types and entities, and each element knows its line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat  # handlers below refuse what makes XML dangerous

from extract.errors import InputError
from pipelines.annotations.files import JsonFile, finite, number, read_text, said

WHOLE = 2**53
"""Whole numbers from here on are not all exact in a column of numbers."""
Keys = Sequence[str | int]


def object_at(file: JsonFile, keys: Keys, value: object) -> dict[str, Any]:
    """An object of JSON."""
    if not isinstance(value, dict):
        raise file.wrong(keys, value, "an object")
    return value


def list_at(file: JsonFile, keys: Keys, value: object) -> list[Any]:
    """A list of JSON."""
    if not isinstance(value, list):
        raise file.wrong(keys, value, "a list")
    return value


def text_at(file: JsonFile, keys: Keys, value: object) -> str:
    """Text of JSON that is not empty."""
    if not isinstance(value, str) or not value:
        raise file.wrong(keys, value, "text that is not empty")
    return value


def number_at(file: JsonFile, keys: Keys, value: object, expected: str = "a finite number") -> float:
    """A finite number of JSON."""
    found = number(value)
    if found is None:
        raise file.wrong(keys, value, expected)
    return found


def whole_at(file: JsonFile, keys: Keys, value: object) -> int:
    """A whole number of JSON."""
    found = number(value)
    if found is None or found != int(found) or abs(found) >= WHOLE:
        raise file.wrong(keys, value, "a whole number")
    return int(found)


def size_of(found: Mapping[str, Any], width: str, height: str) -> tuple[int, int] | tuple[None, None]:
    """Width and height in pixels, where both are said and are sizes."""
    w, h = number(found.get(width)), number(found.get(height))
    return (int(w), int(h)) if w and h and min(w, h) >= 1 and max(w, h) < WHOLE else (None, None)


def whole(text: str) -> int:
    """A whole number in text, such as 7 or 7.0.

    Raises:
        ValueError: it is none.
    """
    value = finite(text)
    if value != int(value) or abs(value) >= WHOLE:
        raise ValueError(f"{text!r:.40} is no whole number")
    return int(value)


@dataclass(slots=True, eq=False)
class Element:
    """An element of XML, and the line on which it begins."""

    path: Path
    tag: str
    attributes: Mapping[str, str]
    line: int
    children: list["Element"] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text in it, without spaces around."""
        return "".join(self.pieces).strip()

    def all(self, tag: str) -> Iterator["Element"]:
        """The children of this tag."""
        return (child for child in self.children if child.tag == tag)

    def below(self, tag: str) -> Iterator["Element"]:
        """All elements of this tag inside, in the order of the file."""
        waiting = self.children[::-1]
        while waiting:
            element = waiting.pop()
            if element.tag == tag:
                yield element
            waiting += element.children[::-1]

    def attribute(self, name: str) -> str:
        """An attribute that has to be there."""
        if name not in self.attributes:
            raise self.wrong(f"<{self.tag}> has no {name}", f"{name}=…")
        return self.attributes[name]

    def number(self, name: str) -> float:
        """An attribute that has to be a finite number."""
        try:
            return finite(self.attribute(name))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise self.wrong(f"{name} is {self.attributes[name]!r:.60}", "a finite number") from error

    def whole(self, name: str) -> int:
        """An attribute that has to be a whole number."""
        value = self.number(name)
        if value != int(value) or abs(value) >= WHOLE:
            raise self.wrong(f"{name} is {self.attributes[name]!r:.60}", "a whole number")
        return int(value)

    def wrong(self, what: str, expected: str) -> InputError:
        """An error about this element."""
        return InputError(f"{self.path}, line {self.line}: {what}; expected {expected}. Correct the file")


def read_xml(path: Path, expected: str) -> Element:
    """The root element.

    Raises:
        InputError: not readable, no XML, or XML with a document type or entities of its own.
    """
    text = read_text(path, expected)
    parser = expat.ParserCreate("utf-8")
    root = Element(path, "", {}, 0)
    inside = [root]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(path, tag, attributes, parser.CurrentLineNumber)
        inside[-1].children.append(element)
        inside.append(element)

    def refuse(*_: object) -> NoReturn:
        raise InputError(
            f"{path}, line {parser.CurrentLineNumber}: a document type (<!DOCTYPE …>); expected {expected}, which needs"
            " none, and it may hide entities that grow without end. Delete it, if you trust the file"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: inside.pop()
    parser.CharacterDataHandler = lambda data: inside[-1].pieces.append(data)
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8"), True)
    except expat.ExpatError as error:
        said_line = text.split("\n")[error.lineno - 1 : error.lineno]
        raise InputError(
            f"{path}, line {error.lineno}, column {error.offset + 1}: {said(''.join(said_line).strip())}"
            f" ({expat.ErrorString(error.code)}); expected {expected}. Correct the file"
        ) from error
    return root.children[0]
