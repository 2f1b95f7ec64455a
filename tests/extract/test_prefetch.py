"""Running ahead in a thread: order, errors, leaving early, and how far ahead."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from extract.prefetch import Prefetch


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited for 10 s"
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [1, 3, 1000])
def test_order_is_kept(ahead: int) -> None:
    with Prefetch(range(200), ahead) as items:
        assert list(items) == list(range(200))


def test_nothing_and_none_are_items_like_others() -> None:
    with Prefetch([], 2) as items:
        assert list(items) == []
    with Prefetch([None, (), None], 1) as items:
        assert list(items) == [None, (), None]


def test_error_comes_where_the_item_would_have_come() -> None:
    def failing() -> Iterator[int]:
        yield from (1, 2, 3)
        raise ValueError("the fourth is broken")

    with Prefetch(failing(), 10) as items:
        one_by_one = iter(items)
        assert [next(one_by_one) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(ValueError, match="the fourth is broken"):
            next(one_by_one)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_stops_the_thread(taken: int) -> None:
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    with Prefetch(endless(), 2) as items:
        one_by_one = iter(items)
        assert [next(one_by_one) for _ in range(taken)] == list(range(1, taken + 1))
    at_exit = made
    time.sleep(0.02)
    assert made == at_exit <= taken + 3


def test_error_in_the_consumer_stops_the_thread() -> None:
    def consume() -> None:
        with Prefetch(iter(int, 1), 2) as items:
            raise KeyError(f"mine, after {next(iter(items))}")

    with pytest.raises(KeyError, match="mine, after 0"):
        consume()


@pytest.mark.parametrize("ahead", [1, 4])
def test_look_ahead_is_bounded(ahead: int) -> None:
    """``ahead`` items wait, and one more is in the producer's hand."""
    made: list[int] = []

    def counted() -> Iterator[int]:
        for k in range(100):
            made.append(k)
            yield k

    with Prefetch(counted(), ahead) as items:
        wait_until(lambda: len(made) == ahead + 1)
        for taken, _ in enumerate(items, start=1):
            assert len(made) <= taken + ahead + 1
            if taken == 10:
                wait_until(lambda: len(made) == 10 + ahead + 1)
                time.sleep(0.02)
                assert len(made) == 10 + ahead + 1
    assert len(made) == 100


def test_it_runs_while_the_consumer_is_busy_and_counts_seconds() -> None:
    def slow() -> Iterator[int]:
        for k in range(3):
            time.sleep(0.05)
            yield k

    with Prefetch(slow(), 3) as items:
        wait_until(lambda: items.producing_s >= 0.15)
        assert list(items) == [0, 1, 2]
    assert items.waiting_s < 0.1
    with Prefetch(slow(), 3) as items:
        assert list(items) == [0, 1, 2]
    assert items.waiting_s >= 0.1
