"""Limits of starts that a test chooses, and processes that are stopped in their start."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest

from rollouts.settings import EpisodeSettings, ServingSettings


def limit_starts(patch: pytest.MonkeyPatch, limit: list[float]) -> None:
    """Let a start take as many seconds as the list's only number says; it may change."""
    for settings in (EpisodeSettings, ServingSettings):
        patch.setattr(settings, "start_timeout_seconds", property(lambda _: limit[0]))


def stop_next(name: str) -> list[int]:
    """Let a thread stop the next process of Ray that gets a name; its id, soon."""
    before = {process.pid for process in _named(name)}
    stopped: list[int] = []

    def watch() -> None:
        limit = time.monotonic() + 120.0
        while not stopped and time.monotonic() < limit:
            for process in _named(name):
                if process.pid not in before:
                    os.kill(process.pid, signal.SIGSTOP)
                    stopped.append(process.pid)
                    return
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    return stopped


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until a condition holds; raise AssertionError if it does not after so long."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def wait_until_gone(pid: int, seconds: float = 15.0) -> None:
    """Raise AssertionError if a process is there after so long; one that is dead counts as gone."""
    limit = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < limit, f"{pid} is still there"
            time.sleep(0.05)


def _named(name: str) -> list[psutil.Process]:
    """The processes below this one that Ray has named so."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if f"ray::{name}" in " ".join(process.cmdline()):
                found.append(process)
    return found
