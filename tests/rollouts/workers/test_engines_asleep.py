"""What becomes of engines that sleep, with a stand-in for vLLM's (a CPU's cannot sleep), over Ray.

The order of the calls to a real engine is in test_served_policy.py.
"""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rollouts import ServingSettings
from rollouts.processes.ray_cluster import Need, Places
from rollouts.processes.ray_processes import get, start_ray, stop_ray
from rollouts.serving.messages import Address
from rollouts.serving.statistics import EngineStatistics
from rollouts.workers import engines as module
from rollouts.workers.engines import Engines
from rollouts.workers.events import EventThread
from rollouts.workers.nodes import Nodes

pytestmark = pytest.mark.process


class Sleepy:
    """A policy actor without an engine: it writes down what it is asked to do."""

    def __init__(self, settings: ServingSettings, *, stops: bool) -> None:
        assert stops
        self.done: list[str] = []

    async def start(self, folder: Path, version: int, host: str) -> Address:
        self.done.append(f"start {version}")
        return Address(f"tcp://{host}:1", b"")

    async def until_dead(self) -> None:
        import asyncio

        await asyncio.sleep(1000.0)

    async def steps(self) -> tuple[int, bool]:
        return 0, True  # as if requests waited for it

    async def statistics(self) -> EngineStatistics:
        return EngineStatistics(requests=1)

    async def sleep(self) -> None:
        self.done.append("sleep")

    async def sync_weights(self, folder: str, version: int) -> None:
        self.done.append(f"sync {version}")

    async def shutdown(self) -> None:
        pass

    async def history(self) -> list[str]:
        return self.done


class Owner:
    """The pool's part: a thread that owns the engines."""

    def __init__(self, engines: Engines, thread: EventThread, errors: list[BaseException]) -> None:
        self.engines, self._thread, self.errors = engines, thread, errors

    def ask(self, request: Any) -> Any:
        done: Future[Any] = Future()
        self._thread.post(partial(request, done))
        return done.result(60.0)

    def until_ready(self) -> list[str]:
        """Wait for the engine; return what it was asked."""
        limit = time.monotonic() + 60.0
        while not self.engines.ready:
            assert time.monotonic() < limit
            time.sleep(0.05)
        history: list[str] = get(self.engines.actors[0].history.remote())
        return history


@contextmanager
def owner(tmp_path: Path, *, step_timeout_seconds: float = 100.0) -> Iterator[Owner]:
    errors: list[BaseException] = []
    start_ray()
    thread = EventThread(lambda: engines.look(), errors.append, seconds=0.1)
    nodes = Nodes(tmp_path, post=thread.post)
    engines = Engines(
        nodes,
        7,
        ServingSettings(sleep=True, step_timeout_seconds=step_timeout_seconds),
        places=Places([Need()]),
        post=thread.post,
        on_ready=lambda: None,
        workers=list,
        stops=True,
    )
    thread.start()
    try:
        yield Owner(engines, thread, errors)
    finally:
        thread.stop()
        engines.close()
        nodes.close()
        stop_ray()


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PolicyActor", Sleepy)


def test_new_weights_wake_an_engine_and_a_sleeping_one_does_not_hang(tmp_path: Path) -> None:
    with owner(tmp_path, step_timeout_seconds=2.0) as owned:
        owned.until_ready()
        owned.ask(owned.engines.sleep)
        # It makes no step, and has something to do.
        time.sleep(4.0)
        owned.ask(partial(owned.engines.sync, 8))
        assert owned.until_ready() == ["start 7", "sleep", "sync 8"]
        assert owned.ask(owned.engines.add_up).requests == 1
        assert owned.errors == []


def test_an_engine_that_dies_asleep_starts_again_with_the_new_weights(tmp_path: Path) -> None:
    with owner(tmp_path) as owned:
        owned.until_ready()
        _, pid = get(owned.engines.actors[0].process_id.remote())
        owned.ask(owned.engines.sleep)
        os.kill(pid, signal.SIGKILL)
        limit = time.monotonic() + 30.0
        while owned.engines.ready:
            assert time.monotonic() < limit
            time.sleep(0.05)
        # The learner has the memory: nothing starts.
        time.sleep(1.0)
        assert not owned.engines.ready
        owned.ask(partial(owned.engines.sync, 8))
        assert owned.until_ready() == ["start 8"]
        assert owned.errors == []
