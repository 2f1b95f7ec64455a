"""More moments like this one: the whole of a store searched by the features of some seconds of a video."""

import difflib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import InputError, StoreError, UsageError
from extract.store import FeatureSequence, FeatureStore, Layout
from pipelines.console import clock
from pipelines.searching.cosine import centre_of, cosines
from pipelines.searching.moments import best_windows, moments_in
from pipelines.whole import written_whole
from seqmodels.runs import step_edges

_TIME = r"(?:(?:\d+:)?\d{1,2}:)?\d+(?:\.\d*)?"
_SPAN = re.compile(rf"({_TIME})-({_TIME})")


@dataclass(frozen=True, slots=True)
class Query:
    """Seconds [start_s, stop_s) of a video."""

    video_id: str
    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """A moment that was found. ``score``: mean cosine of its best window with the query, in -1..1.

    ``is_self``: it is a query and what is around it. ``damaged``: clips of it hold frames of a damaged stretch.
    """

    video_id: str
    start_s: float
    stop_s: float
    score: float
    is_self: bool
    damaged: bool

    @property
    def as_json(self) -> dict[str, Any]:
        """As JSON values, rounded."""
        return {
            "video": self.video_id,
            "start": round(self.start_s, 3),
            "stop": round(self.stop_s, 3),
            "score": round(self.score, 4),
            "self": self.is_self,
            "damaged": self.damaged,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave: ``results`` with the queries' own moments first, then the others by falling score."""

    queries: tuple[Query, ...]
    results: tuple[Result, ...]
    clips: int
    videos: int
    seconds: float


def parse_query(text: str) -> Query:
    """The query ``VIDEO_ID@START-STOP``, in seconds or as a clock shows them (``1:02:03.5``).

    Raises:
        UsageError: it is not of this form, or nothing lies between start and stop.
    """
    video_id, at, span = text.rpartition("@")
    times = _SPAN.fullmatch(span.replace(" ", ""))
    if not at or not video_id or times is None:
        raise UsageError(f"the query {text!r:.200} is not of the form VIDEO_ID@START-STOP; expected v.mp4@12.0-18.0")
    start_s, stop_s = (_seconds(part) for part in times.groups())
    if not start_s < stop_s:
        raise UsageError(f"the query {text!r:.200} has nothing between {start_s:g} s and {stop_s:g} s")
    return Query(video_id, start_s, stop_s)


def search(store: FeatureStore | str | Path, queries: Sequence[Query | str], *, k: int = 20) -> Found:
    """The ``k`` moments of a store that are most like the queries, beside the queries' own.

    A clip belongs to a query when its middle lies in it; without any, the nearest one does. The features of all clips
    are compared after the store's mean was taken from them, which many clips have in common. The direction of a query
    is the mean of its clips' directions; of several queries, the mean of theirs. All clips of the store are compared,
    by their exact cosine; a moment's score is the mean over a window of as many clips as the first query has.

    Raises:
        InputError: a query whose video is not in the store, or that lies behind its end; an empty store.
        UsageError: no query, a store of boxes, or a ``k`` below 1.
    """
    began = time.perf_counter()
    asked = tuple(query if isinstance(query, Query) else parse_query(query) for query in queries)
    if not asked or k < 1:
        raise UsageError(f"{len(asked)} queries and k {k}; expected at least one query, and a k of at least 1")
    opened = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    if opened.of_boxes:
        raise UsageError(
            f"{opened.url} holds features of boxes, of which several share a moment; search a store of whole clips"
        )
    read = {query.video_id: _sequence(opened, query) for query in asked}
    own = [(query, *_clips_of(query, read[query.video_id])) for query in asked]
    laid = opened.layout()
    centre = centre_of(opened, laid)
    direction = _direction([read[query.video_id].features[first:stop] for query, first, stop in own], centre)
    cosine = cosines(opened, laid, direction, centre)
    length = own[0][2] - own[0][1]
    searched = _Searched(opened, laid, cosine, length)
    results = [*searched.own(own), *searched.others(own, k)]
    return Found(asked, tuple(results), laid.rows, len(laid.video_ids), time.perf_counter() - began)


def search_store(store: str, queries: Sequence[str], *, k: int) -> tuple[FeatureStore, Found]:
    """`search`, and the store that it opened."""
    asked = [parse_query(query) for query in queries]
    opened = FeatureStore.open(store)
    return opened, search(opened, asked, k=k)


def check_output(output: Path | None, videos: Path | None) -> None:
    """Refuse, before there is work, a file that cannot be written.

    Raises:
        UsageError: it is neither a page nor JSON, or ``videos`` is no folder.
        InputError: it exists and is a folder, or lies in none.
    """
    if output is not None and output.suffix.lower() not in (".html", ".htm", ".json"):
        raise UsageError(f"the output {output} is neither .html nor .json; expected one of these names")
    if videos is not None and not videos.is_dir():
        raise UsageError(f"{videos} is not a folder; expected the folder of the videos")
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"{output} cannot be written: it is a folder, or there is none to hold it; name a new file")


def write_found(found: Found, store: FeatureStore, output: Path, *, videos: Path | None, quiet: bool = True) -> None:
    """Write the results as a page (``.html``) or as JSON.

    Raises:
        MachineError: the file cannot be written.
    """
    if output.suffix.lower() == ".json":
        text = json.dumps(found_json(found, store.url), indent=2) + "\n"
    else:
        from pipelines.searching.page import found_page

        text = found_page(found, store, output.absolute().parent, videos=videos, quiet=quiet)
    with written_whole(output) as partial:
        partial.write_text(text, encoding="utf-8")


def found_json(found: Found, store: str) -> dict[str, Any]:
    """What ``untrimmed search --json`` prints."""
    return {
        "store": store,
        "query": [{"video": q.video_id, "start": q.start_s, "stop": q.stop_s} for q in found.queries],
        "results": [result.as_json for result in found.results],
        "clips": found.clips,
        "videos": found.videos,
        "seconds": round(found.seconds, 3),
    }


def found_lines(found: Found) -> Iterator[str]:
    """The results for people."""
    rank = 0
    for result in found.results:
        rank += not result.is_self
        place = "query" if result.is_self else str(rank)
        damaged = "  damaged" if result.damaged else ""
        span = f"{clock(result.start_s):>10} {clock(result.stop_s):>10}"
        yield f"  {place:>5}  {result.score:6.3f}  {span}  {result.video_id!r:.200}{damaged}"
    yield f"{found.clips:,} clips of {found.videos:,} videos compared in {found.seconds:.2f} s"


class _Searched:
    """A store whose clips have their cosines ``(R,)``."""

    def __init__(self, store: FeatureStore, laid: Layout, cosine: NDArray[np.float32], length: int) -> None:
        self._store, self._laid, self._cosine, self._length = store, laid, cosine, length

    def own(self, own: Sequence[tuple[Query, int, int]]) -> Iterator[Result]:
        """The queries' own moments, in their order; one for queries that share it."""
        for video_id in dict.fromkeys(query.video_id for query, _, _ in own):
            yield from (result for result in self._moments(video_id, own, 0) if result.is_self)

    def others(self, own: Sequence[tuple[Query, int, int]], k: int) -> list[Result]:
        """The best ``k`` that are not the queries' own. Of no video is more read than its best window is worth."""
        best = best_windows(self._cosine, self._laid.starts, self._length)
        results: list[Result] = []
        for position in np.argsort(-best, kind="stable").tolist():
            full = len(results) >= k and results[k - 1].score >= best[position]
            if full or best[position] == -np.inf:
                break
            video_id = self._laid.video_ids[position]
            results += [result for result in self._moments(video_id, own, k) if not result.is_self]
            results = sorted(results, key=lambda result: -result.score)[:k]
        return results

    def _moments(self, video_id: str, own: Sequence[tuple[Query, int, int]], most: int) -> Iterator[Result]:
        cosine = self._cosine[self._laid.rows_of(video_id)]
        mine = tuple((first, stop) for query, first, stop in own if query.video_id == video_id)
        found = list(moments_in(cosine, self._length, most=most, own=mine))
        sequence = self._store[video_id]
        edges = step_edges((sequence.start_s + sequence.stop_s) / 2, sequence.duration_s)
        for moment, is_own in found:
            start_s, stop_s = float(edges[moment.first]), float(edges[moment.stop])
            damaged = bool(sequence.damaged[moment.first : moment.stop].any())
            yield Result(video_id, start_s, stop_s, moment.score, is_own, damaged)


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def _sequence(store: FeatureStore, query: Query) -> FeatureSequence:
    if query.video_id not in store:
        near = difflib.get_close_matches(query.video_id, list(store), n=3, cutoff=0.3)
        hint = f"; near: {', '.join(map(repr, near))}" if near else ""
        raise InputError(f"{store.url} has no video {query.video_id!r:.200}{hint}. `untrimmed info` counts its videos")
    sequence = store[query.video_id]
    if not len(sequence):
        raise StoreError(f"{query.video_id!r} has no clips in {store.url}")
    if query.start_s >= sequence.duration_s:
        raise InputError(
            f"{query.video_id!r} ends at {clock(sequence.duration_s)} ({sequence.duration_s:g} s);"
            f" the query begins at {query.start_s:g} s. Ask for seconds before the end"
        )
    return sequence


def _clips_of(query: Query, sequence: FeatureSequence) -> tuple[int, int]:
    """The clips [first, stop) of a query: those whose middle lies in it, or the one nearest to its middle."""
    middle = (sequence.start_s + sequence.stop_s) / 2
    first, stop = np.searchsorted(middle, [query.start_s, query.stop_s]).tolist()
    if first == stop:
        first = int(np.argmin(np.abs(middle - (query.start_s + query.stop_s) / 2)))
        stop = first + 1
    return first, stop


def _direction(clips: Sequence[NDArray[np.floating[Any]]], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D,): the mean direction of each query's clips ``(n, D)``, and of these."""
    means = [_normalised(_normalised(part.astype(np.float64) - centre).mean(0)) for part in clips]
    return np.asarray(np.mean(means, axis=0), np.float32)


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
