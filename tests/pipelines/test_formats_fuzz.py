"""Broken bytes in every format: an error of ours or a document, never anything else, and soon."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotated import EXAMPLES, drawn_segments, example

from extract.errors import InputError
from pipelines.annotations.document import Document
from pipelines.annotations.formats import FORMATS, read_document
from pipelines.annotations.given import Given
from pipelines.annotations.parquet import read_parquet, write_parquet

ROUNDS = 60
NUMBERS = [b"NaN", b"-inf", b"1e999", b"9" * 4400, b"-0", b"1e308", b"0x10", b"1_0", b"9999999999999999999", b"null"]
BITS = [
    b"\xff\xfe",
    b"\x00",
    b"\xc3(",
    "é".encode("latin-1"),
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\r",
    b'"',
    b"<",
    b"]]",
]


def broken(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes cut, flipped, doubled, left out, or with something odd put in; more than once now and then."""
    for _ in range(int(rng.integers(1, 4))):
        at, to = sorted(int(place) for place in rng.integers(0, len(data) + 1, 2))
        kind = int(rng.integers(0, 7))
        if kind == 0:
            data = data[:at]
        elif kind == 1 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(0, 8))]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + data[to:]
        elif kind == 3:
            data = data[:to] + data[at:to] + data[to:]
        elif kind == 4:
            data = data[:at] + BITS[int(rng.integers(0, len(BITS)))] + data[at:]
        else:
            data = with_number(data, rng)
    return data


def with_number(data: bytes, rng: np.random.Generator) -> bytes:
    """One of the numbers in ``data`` becomes an odd one."""
    starts = [n for n in range(1, len(data)) if data[n : n + 1].isdigit() and not data[n - 1 : n].isdigit()]
    if not starts:
        return data
    start = int(rng.choice(starts))
    stop = start
    while stop < len(data) and (data[stop : stop + 1].isdigit() or data[stop : stop + 1] == b"."):
        stop += 1
    return data[:start] + NUMBERS[int(rng.integers(0, len(NUMBERS)))] + data[stop:]


def outcome(read: Callable[[], Document]) -> str | None:
    """What is said of a file that cannot be read; None of one that can."""
    try:
        assert isinstance(read(), Document)
    except InputError as error:
        said = str(error)
    else:
        return None
    assert re.search("expected|is there twice|Give --", said), said
    assert len(said) < 2000
    return said


@pytest.mark.parametrize("name", EXAMPLES)
def test_broken_bytes(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(sum(name.encode()))
    place = example(name, tmp_path)
    intact = {file: (tmp_path / file).read_bytes() for file in EXAMPLES[name]}
    reader = FORMATS[read_document(place, fps=25, size=(200, 100)).format].read
    began, refused = time.monotonic(), 0
    for _ in range(ROUNDS):
        file = list(intact)[int(rng.integers(0, len(intact)))]
        (tmp_path / file).write_bytes(broken(intact[file], rng))
        for read in (
            lambda: read_document(place, fps=25, size=(200, 100)),
            lambda: reader(place, Given(25, (200, 100))),
        ):
            refused += outcome(read) is not None
        (tmp_path / file).write_bytes(intact[file])
    assert refused
    assert time.monotonic() - began < 10


def test_broken_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rng, path = np.random.default_rng(1), tmp_path / "x.parquet"
    write_parquet(drawn_segments(0), path, Given())
    intact = path.read_bytes()
    for _ in range(2 * ROUNDS):
        path.write_bytes(broken(intact, rng))
        outcome(lambda: read_parquet(path, Given()))


def test_any_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    words = [
        b"1",
        b"2.5",
        b"nan",
        b"a",
        b"-",
        b",",
        b"\t",
        b" ",
        b"\n",
        b"WEBVTT",
        b"-->",
        b"{",
        b"[",
        b"]",
        b":",
        b'"',
        b"<",
    ]
    words += [
        b"###",
        b"Behavior",
        b"Time",
        b"id,actions",
        b"label,youtube_id,time_start,time_end",
        b"item {",
        b"annotations",
    ]
    for _ in range(400):
        data = b"".join(words[n] for n in rng.integers(0, len(words), int(rng.integers(1, 40))))
        (tmp_path / "x").write_bytes(data)
        outcome(lambda: read_document(tmp_path / "x", fps=25, size=(200, 100)))
