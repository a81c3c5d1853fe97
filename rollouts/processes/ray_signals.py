"""Keeps signals of this process and its group away from Ray, and Ray's handlers away from them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial


@contextmanager
def in_own_session() -> Iterator[None]:
    """Let Ray's processes start in a session of their own.

    A signal to the driver's process group, as of a terminal or of `timeout`, then ends the driver
    alone. It needs the learner's process to save the last whole step.
    """
    from ray._private import services

    start = services.ConsolePopen
    services.ConsolePopen = partial(start, start_new_session=True)
    try:
        yield
    finally:
        services.ConsolePopen = start


@contextmanager
def signals_kept() -> Iterator[None]:
    """Leave SIGTERM with the handler that it has.

    Ray's start installs handlers, the last of which ends the process with SIGABRT. Its stop sets
    the system's handler, which ends the process at once.
    """
    before = signal.getsignal(signal.SIGTERM)
    # None is a handler of a C library, which Python cannot install again.
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:
        # The program did not ask for it: one of Ray's handlers took the signal.
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
