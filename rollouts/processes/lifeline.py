"""A process that ends with another one: nobody is there to end it when that other one is killed."""

import os
import threading
import time

import psutil

OWNER = "AGENT_RL_ENGINE_OWNER"
"""In the environment of vLLM's processes: the process that started them."""


def end_with_owner() -> None:
    """vLLM calls this in each of its processes (a plugin, see pyproject.toml): its engine core
    outlives its parent.

    It does nothing in a process that no `ServedPolicy` started.
    """
    owner = int(os.environ.get(OWNER, "0"))
    if owner and owner != os.getpid():
        end_with(owner)


def end_with(pid: int, *, poll_seconds: float = 1.0) -> None:
    """End this process and its children at once when process `pid` is gone, however it went.

    Ray ends its workers when their driver leaves, but not on every machine soon after a SIGKILL. A
    thread of its own looks every `poll_seconds`.
    """
    threading.Thread(target=_watch, args=(pid, poll_seconds), name="lifeline", daemon=True).start()


def _watch(pid: int, poll_seconds: float) -> None:
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(poll_seconds)
    except psutil.NoSuchProcess:
        pass
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(1)
