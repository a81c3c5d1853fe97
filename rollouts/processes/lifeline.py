"""Ends a process when another one is gone; a process that is killed cannot end its children."""

import os
import threading
import time

import psutil

OWNER = "AGENT_RL_ENGINE_OWNER"
"""The environment variable with the id of the process that started vLLM's processes."""


def end_with_owner() -> None:
    """End this process with the `ServedPolicy` that started it.

    vLLM calls this in each of its processes, as a plug-in (see pyproject.toml). If it starts any of
    its own, they outlive their parent. In any other process it does nothing.
    """
    owner = int(os.environ.get(OWNER, "0"))
    if owner and owner != os.getpid():
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
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    # Not sys.exit: that would end this thread only.
    os._exit(1)
