"""Ends a process when another one is gone; a process that is killed cannot end its children."""

import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing import resource_tracker

import psutil

OWNER = "AGENT_RL_ENGINE_OWNER"
"""The environment variable with the id of the process that started vLLM's processes."""
_PR_SET_PDEATHSIG = 1
"""Linux's request for a signal at the end of the parent."""


def end_with_owner() -> None:
    """End this process with the `ServedPolicy` that started it.

    vLLM calls this in each of its processes, as a plug-in (see pyproject.toml). An engine of
    several processes (`serving.tensor_parallel`) starts some, which would outlive their parent. In
    any other process it does nothing.
    """
    owner = int(os.environ.get(OWNER, "0"))
    if owner and owner != os.getpid():
        if sys.platform == "linux" and os.getppid() == owner:
            # A process that is stopped (SIGSTOP) cannot look for its owner, but can be killed.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        end_with(owner)


def end_with(pid: int, *, poll_seconds: float = 1.0) -> None:
    """End this process and its children soon after process `pid` is gone, however it ended.

    Ray too ends its workers when their driver leaves, but on some machines long after a SIGKILL.

    Args:
        poll_seconds: how often a thread looks.
    """
    threading.Thread(target=_watch, args=(pid, poll_seconds), name="lifeline", daemon=True).start()


def _watch(pid: int, poll_seconds: float) -> None:
    try:
        process = psutil.Process(pid)
        # A zombie is dead as well: its parent has only not asked for its status yet.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(poll_seconds)
    except psutil.NoSuchProcess:
        pass
    # Python's own helper deletes the shared memory of processes that were killed, and then ends.
    spared = getattr(resource_tracker._resource_tracker, "_pid", None)
    for child in psutil.Process().children(recursive=True):
        if child.pid == spared:
            continue
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    # Not sys.exit: that would end this thread only.
    os._exit(1)
