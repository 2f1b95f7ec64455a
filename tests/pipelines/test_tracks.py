"""Linking boxes to tracks."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.boxes import Boxes
from pipelines.tracks import ious, link

SIZE = 0.1


def boxes_at(*people: tuple[float, float, float]) -> Boxes:
    """(second, x1, y1) of squares."""
    people = tuple(sorted(people, key=lambda person: person[0]))
    box = np.array([(x, y, x + SIZE, y + SIZE) for _, x, y in people], np.float32).reshape(-1, 4)
    return Boxes(np.array([second for second, _, _ in people], np.float64), box, np.ones(len(people), np.float32))


def test_two_people_who_walk_slowly_keep_their_numbers() -> None:
    walkers = [(float(t), 0.1 + 0.02 * t, 0.1) for t in range(5)]
    others = [(float(t), 0.8 - 0.02 * t, 0.5) for t in range(5)]
    boxes = boxes_at(*(pair for both in zip(walkers, others, strict=True) for pair in both))
    assert link(boxes).tolist() == [0, 1] * 5


def test_a_track_ends_where_its_person_is_gone_or_jumps() -> None:
    assert link(boxes_at((0, 0.1, 0.1), (1, 0.1, 0.1), (3, 0.1, 0.1), (4, 0.8, 0.1))).tolist() == [0, 0, 1, 2]
    assert link(boxes_at((0, 0.1, 0.1), (1, 0.15, 0.1))).tolist() == [0, 1], "an IoU of 1/3"
    assert link(boxes_at((0, 0.1, 0.1), (1, 0.15, 0.1)), least_iou=0.3).tolist() == [0, 0]
    assert link(boxes_at((0, 0.1, 0.1), (2, 0.1, 0.1)), every_s=2.0).tolist() == [0, 0]
    assert link(boxes_at()).tolist() == []


def test_the_sum_counts_and_not_the_best_pair() -> None:
    """The first of the second's people is nearest to both of those before, who then go as two pairs."""
    boxes = boxes_at((0, 0.10, 0.1), (0, 0.13, 0.1), (1, 0.12, 0.1), (1, 0.16, 0.1))
    assert link(boxes, least_iou=0.4).tolist() == [0, 1, 0, 1]


def test_a_good_pair_is_not_given_up_for_one_that_counts_for_nothing() -> None:
    boxes = boxes_at((0, 0.10, 0.1), (0, 0.05, 0.1), (1, 0.08, 0.1), (1, 0.16, 0.1))
    assert link(boxes, least_iou=0.6).tolist() == [0, 1, 0, 2]


def test_iou() -> None:
    box = np.array([[0, 0, 0.4, 0.5], [0.2, 0, 0.6, 0.5], [0.5, 0.5, 1, 1]], np.float32)
    np.testing.assert_allclose(ious(box, box), [[1, 1 / 3, 0], [1 / 3, 1, 0.1 * 0 / 1], [0, 0, 1]], atol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_a_track_has_one_box_a_second_without_gaps(people: list[tuple[int, int, int]]) -> None:
    boxes = boxes_at(*((float(t), x / 10, y / 10) for t, x, y in people))
    tracks = link(boxes)
    assert sorted(set(tracks.tolist())) == list(range(len(set(tracks.tolist()))))
    for number in set(tracks.tolist()):
        own = np.flatnonzero(tracks == number)
        assert np.diff(boxes.second[own]).tolist() == [1.0] * (len(own) - 1)
        for before, after in itertools.pairwise(own):
            assert ious(boxes.box[[before]], boxes.box[[after]])[0, 0] == pytest.approx(1.0)
