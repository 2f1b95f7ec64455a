"""Broken bytes in every format: an error of ours or a document, never anything else, and soon."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from annotated import EXAMPLES, drawn_segments, example
from broken import broken

from extract.errors import InputError
from pipelines.annotations.document import Document
from pipelines.annotations.formats import FORMATS, read_document
from pipelines.annotations.given import Given
from pipelines.annotations.parquet import read_parquet, write_parquet

ROUNDS = 60


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
