"""Kills real drivers, and checks that their processes end with them."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import psutil
import pytest

from rollouts.processes.lifeline import OWNER, end_with_owner
from tests.builders.paths import ROOT

pytestmark = pytest.mark.process
MEMORY = Path("/dev/shm")
WORKER = """
import os, subprocess, sys, time
from rollouts.processes.lifeline import end_with
child = subprocess.Popen(["sleep", "100"])
end_with(int(sys.argv[1]), poll_seconds=0.05)
print(os.getpid(), child.pid, flush=True)
time.sleep(100)
"""
OWNED = """
import time
from rollouts.processes.lifeline import end_with_owner
end_with_owner()
print(1, flush=True)
time.sleep(100)
"""


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def gone(pid: int, seconds: float = 20.0) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
                continue
        return True
    return False


def test_a_worker_and_its_children_end_with_a_killed_driver() -> None:
    driver = subprocess.Popen(["sleep", "100"])
    worker = start(WORKER, str(driver.pid))
    assert worker.stdout is not None
    pid, child = (int(word) for word in worker.stdout.readline().split())
    assert not gone(child, 0.5), "the worker ended before its driver"
    driver.send_signal(signal.SIGKILL)
    # Not reaped: a driver that is a zombie is gone as well.
    assert gone(pid)
    assert gone(child)
    driver.wait()
    assert worker.wait() == 1


def test_an_engine_ends_with_its_owner_and_others_are_left_alone() -> None:
    owner = subprocess.Popen(["sleep", "100"])
    engine = start(OWNED, **{OWNER: str(owner.pid)})
    assert engine.stdout is not None
    engine.stdout.readline()
    owner.kill()
    assert engine.wait(20) == 1
    owner.wait()
    end_with_owner()  # this process has no owner, so it continues
    assert "lifeline" not in {thread.name for thread in threading.enumerate()}


OWNER_CODE = """
import os, subprocess, sys, time
from rollouts.processes.lifeline import OWNER
engine = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]],
    env={**os.environ, OWNER: str(os.getpid())}, stdout=subprocess.PIPE,
)
engine.stdout.readline()
print(engine.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such signal")
def test_an_engines_process_that_is_stopped_ends_with_its_owner_too() -> None:
    owner = start(OWNER_CODE, OWNED)
    assert owner.stdout is not None
    engine = int(owner.stdout.readline())
    os.kill(engine, signal.SIGSTOP)
    owner.kill()
    owner.wait()
    assert gone(engine)


SHARED = """
import subprocess, sys, time
from multiprocessing.shared_memory import SharedMemory
from rollouts.processes.lifeline import end_with
shared = SharedMemory(create=True, size=100)
end_with(int(sys.argv[1]), poll_seconds=0.05)
print(shared.name, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(not MEMORY.is_dir(), reason="no memory-backed files to look at")
def test_shared_memory_is_deleted_if_a_process_ends_with_its_driver() -> None:
    driver = subprocess.Popen(["sleep", "100"])
    worker = start(SHARED, str(driver.pid))
    assert worker.stdout is not None
    memory = MEMORY / worker.stdout.readline().strip()
    assert memory.exists()
    driver.kill()
    driver.wait()
    worker.wait(20)
    limit = time.monotonic() + 20.0
    while memory.exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert not memory.exists()


def test_vllm_is_told_about_it() -> None:
    (plugin,) = entry_points(group="vllm.general_plugins", name="agent_rl_lifeline")
    assert plugin.load() is end_with_owner
