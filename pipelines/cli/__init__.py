"""The command ``untrimmed``. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad input or environment, 4 finished, but some inputs failed.
"""

import os
import sys
from typing import NoReturn

from extract.errors import UntrimmedError
from pipelines.cli import (
    extracting,
    looking,
    predicting,
    pretraining,
    reporting,
    searching,
    storing,
    training,
    visualizing,
)
from pipelines.cli.shared import STOPPED, app
from pipelines.console import complain

__all__ = [
    "STOPPED",
    "app",
    "extracting",
    "looking",
    "main",
    "predicting",
    "pretraining",
    "reporting",
    "searching",
    "storing",
    "training",
    "visualizing",
]
_GO_ON = {
    "extract": "An extraction",
    "demo": "An extraction",
    "detect-people": "A search for people",
    "train": "A training",
    "pretrain": "A training",
}


def main() -> None:
    """Run the command line; every error of ours becomes one message and its exit code."""
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # when Python ends, nobody could catch its error any more
    except BrokenPipeError:
        _end_unheard()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer's and rich's own answer to it
            _end_unheard()
        if ended.code == STOPPED:  # typer's own answer to Ctrl-C
            what = next((_GO_ON[name] for name in sys.argv[1:2] if name in _GO_ON), "")
            goes_on = f" {what} goes on from here when the same command is run again." if what else ""
            complain(f"untrimmed: stopped.{goes_on}")
        raise
    except UntrimmedError as error:
        if verbose:
            raise
        complain(f"untrimmed: {error}")
        sys.exit(error.exit_code)
    except Exception as error:  # the last line of defence: no traceback unless asked for
        if verbose:
            raise
        complain(
            f"untrimmed: unexpected {type(error).__name__}: {error}\nRun it again with -v to see where; that is a bug."
        )
        sys.exit(1)


def _end_unheard() -> NoReturn:
    """End well: whoever read stdout, such as ``head``, has all that it wants."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes there
    sys.exit(0)
