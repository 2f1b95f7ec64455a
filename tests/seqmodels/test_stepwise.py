"""Answers and segments as steps come: those of the whole sequence."""

import numpy as np
import pytest
import torch

from seqmodels import HEADS, Head, HeadSpec
from seqmodels.runs import run_scores, runs_of, step_edges
from seqmodels.stepwise import OpenRuns, Segment, stepwise
from seqmodels.windows import step_logits


def made(name: str, *, causal: bool = True, window: int | None = 5) -> Head:
    torch.manual_seed(0)
    spec = HeadSpec(width=12, n_classes=3, per_step=True, hidden=16, causal=causal, window=window)
    return HEADS[name](spec).eval()


@pytest.mark.parametrize("name", ["lstm", "gru", "attention", "linear"])
@pytest.mark.parametrize("most", [1, 7])
def test_answers_are_those_of_the_whole(name: str, most: int) -> None:
    head, rng = made(name), np.random.default_rng(most)
    features, times = torch.randn(90, 12), torch.arange(90, dtype=torch.float64) * 0.8 + 3600
    answer, at, found = stepwise(head), 0, []
    while at < len(features):
        piece = slice(at, at + int(rng.integers(1, most + 1)))
        found.append(answer(features[piece], times[piece]))
        at = piece.stop
    torch.testing.assert_close(torch.cat(found), step_logits(head, features, times), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "causal", "window"),
    [("lstm", False, None), ("attention", True, None), ("attention", False, 5), ("ms-tcn", True, 5), ("mean", True, 5)],
)
def test_heads_that_need_the_whole_are_refused(name: str, causal: bool, window: int | None) -> None:
    with pytest.raises(ValueError, match="as steps come"):
        stepwise(made(name, causal=causal, window=window))


@pytest.mark.parametrize("steps", [1, 2, 3, 60])
def test_segments_are_those_of_the_whole(steps: int) -> None:
    rng = np.random.default_rng(steps)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        centre_s = np.cumsum(rng.uniform(0.1, 2, steps))
        values = rng.choice(np.array([0, 70, 80, 200, 255], np.uint8), (4, steps))
        duration_s = float(centre_s[-1] + rng.uniform(0, 1))
        runs, ended = OpenRuns(4, threshold), list[Segment]()
        for at, step in enumerate(values.T):
            ended += (new := runs.push(float(centre_s[at]), step))
            assert all(segment.stop_s <= centre_s[at] for segment in new)
        ended += runs.close(duration_s)
        assert sorted(ended) == sorted(whole(centre_s, values, duration_s, threshold))


def whole(centre_s: np.ndarray, values: np.ndarray, duration_s: float, threshold: float) -> list[Segment]:
    edges, found = step_edges(centre_s, duration_s), list[Segment]()
    for label, row in enumerate(values):
        runs = runs_of(row, threshold)
        spans = edges[runs].reshape(-1, 2).tolist()
        found += [
            Segment(start_s, stop_s, label, score)
            for (start_s, stop_s), score in zip(spans, run_scores(row, runs).tolist(), strict=True)
        ]
    return found


def test_a_video_without_steps_has_no_segments() -> None:
    assert OpenRuns(2, 0.5).close(3.0) == []
