"""What Dask's errors mean to a user."""

from concurrent.futures import CancelledError

import pytest
from distributed.comm.core import CommClosedError

from extract.errors import MachineError
from extract.job._dispatch import explained


@pytest.mark.parametrize("error", [CancelledError("untrimmed-1"), CommClosedError("in ConnectionPool.gather")])
def test_a_scheduler_that_is_gone_before_or_while_a_result_is_fetched(error: Exception) -> None:
    told = explained(error)
    assert isinstance(told, MachineError)
    assert "scheduler went away; run the same command again" in str(told)


def test_an_error_of_the_work_is_itself() -> None:
    error = OSError("no space left on device")
    assert explained(error) is error
