"""Training annotations from every format that says enough."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from annotated import drawn_segments, example

from extract.errors import InputError
from pipelines.annotations.activitynet import read_activitynet
from pipelines.annotations.document import Media
from pipelines.annotations.formats import write_document
from pipelines.annotations.temporal import read_annotations


def test_formats_that_say_as_much_as_activitynet(tmp_path: Path) -> None:
    document = drawn_segments(1)
    for form in ("activitynet", "actionformer", "opentad", "parquet"):
        write_document(document, tmp_path / form, form)
    strict = read_activitynet(tmp_path / "activitynet")
    assert {segment.label for video in strict.videos for segment in video.segments} == set(document.labels)
    for form in ("activitynet", "actionformer", "opentad", "parquet"):
        assert read_annotations(tmp_path / form) == strict


def test_a_row_without_ends_is_the_whole_video(tmp_path: Path) -> None:
    document = drawn_segments(2, n=1)
    whole = replace(document.segments, span_s=np.full((1, 2), np.nan))
    write_document(replace(document, segments=whole), tmp_path / "x", "parquet")
    (segment,) = (segment for video in read_annotations(tmp_path / "x").videos for segment in video.segments)
    assert (segment.start_s, segment.stop_s) == (0, 40)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("charades", "nothing says which subset a video is in, of 2 of 2: 46GP8, N11GT.*--subset training"),
        ("webvtt", r"\(webvtt\): nothing says how long a video is"),
        ("mstcn", "counts frames; expected seconds"),
        ("activitynet", "expected 0 <= start <= stop"),
        ("activitynet-predictions", "predictions; expected annotations"),
        ("thumos", "nothing says how long"),
    ],
)
def test_formats_that_say_less(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_annotations(example(name, tmp_path))


def test_reversed_segments_are_no_annotations(tmp_path: Path) -> None:
    document = drawn_segments(3)
    rows = replace(document.segments, span_s=document.segments.span_s[:, ::-1].copy())
    write_document(replace(document, segments=rows), tmp_path / "x", "parquet")
    with pytest.raises(InputError, match="expected 0 <= start <= stop"):
        read_annotations(tmp_path / "x")
    late = replace(document, media={video: Media(1.0, subset="training") for video in document.media})
    write_document(late, tmp_path / "y", "parquet")
    with pytest.raises(InputError, match="Are these frames instead of seconds"):
        read_annotations(tmp_path / "y")
