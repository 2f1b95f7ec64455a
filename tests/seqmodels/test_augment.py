import numpy as np
import pytest

from seqmodels.augment import rescaled_steps, splice_steps


@pytest.mark.parametrize("n_steps", [1, 2, 30])
def test_rescaling_keeps_order_and_range(n_steps: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        steps = rescaled_steps(n_steps, rng, factor=1.5)
        assert 1 <= len(steps) <= round(1.5 * n_steps)
        assert (np.diff(steps) >= 0).all()
        assert steps[0] >= 0
        assert steps[-1] < n_steps


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 9), (20, 10)])
def test_splices_a_beginning_and_an_end_at_one_place(first: int, second: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        head, tail = splice_steps(first, second, rng)
        assert len(head) + len(tail) >= 1
        assert list(head) == list(range(len(head)))
        assert list(tail) == list(range(second - len(tail), second))
        assert len(head) / first == pytest.approx(1 - len(tail) / second, abs=0.5 / first + 0.5 / second + 1 / second)
