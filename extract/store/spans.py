"""Videos that several workers read, each some clips: when all are there, and what they are together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from extract.store.checksum import combined
from extract.store.records import SpanRecord, VideoRecord

_EARLIEST, _LATEST, _ADDED = "started_unix_s", "finished_unix_s", "decoded_frames"
_WHERE = ("host", "device", "engine", "decoder", "decoder_library", "untrimmed")


def chain_of(spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Spans that follow each other from the first clip to the video's end; empty when some are still missing.

    Of several that do, the one of the earlier spans; ``spans`` is in the order of the log.
    """
    reached: dict[int, SpanRecord | None] = {0: None}
    last = None
    for span in sorted(spans, key=lambda span: span.first_clip):
        if span.first_clip not in reached:
            continue
        if span.ends:
            last = last or span
        elif span.stop_clip not in reached:
            reached[span.stop_clip] = span
    chain = []
    while last is not None:
        chain.append(last)
        last = reached[last.first_clip]
    return chain[::-1]


def joined(chain: Sequence[SpanRecord], row_bytes: Sequence[int]) -> VideoRecord:
    """The video that the spans of ``chain`` make. ``row_bytes``: of one clip in each of the stored arrays."""
    end = chain[-1]
    return VideoRecord(
        video_id=end.video_id,
        fingerprint=end.fingerprint,
        status="partial" if any(span.status == "partial" for span in chain) else "ok",
        duration_s=end.duration_s,
        parts=tuple(span.part for span in chain),
        crc32=combined(
            (span.column_crc32[column], size * span.part.rows)
            for column, size in enumerate(row_bytes)
            for span in chain
        ),
        provenance=_Joined(chain),
    )


class _Joined(Mapping[str, object]):
    """The provenance of spans as that of one video; read when it is asked for."""

    __slots__ = ("_parts",)

    def __init__(self, chain: Sequence[SpanRecord]) -> None:
        self._parts = tuple((span.first_clip, span.provenance) for span in chain)

    def __getitem__(self, key: str) -> object:
        return self._whole()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> dict[str, object]:
        parts: list[tuple[int, dict[str, Any]]] = [(first, dict(provenance)) for first, provenance in self._parts]
        values = [provenance for _, provenance in parts]
        whole = dict(values[-1])
        for key, join in ((_EARLIEST, min), (_LATEST, max), (_ADDED, sum)):
            if key in whole:
                whole[key] = join(each[key] for each in values)
        whole["spans"] = [{"first_clip": first, **{k: p[k] for k in _WHERE if k in p}} for first, p in parts]
        return whole
