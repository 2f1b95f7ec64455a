"""Ctrl-C is for the process that the user started; its workers end because it ends them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Processes that are started inside inherit an ignored SIGINT; this process ignores it meanwhile, too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
