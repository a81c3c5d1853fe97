"""Workers that hang while they start."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rollouts import EpisodeSettings, WorkerSettings
from rollouts.processes.ray_processes import get
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.drills import record
from tests.builders.number_env import NumberEnv
from tests.builders.starts import limit_starts, stop_next, wait_for, wait_until_gone

pytestmark = pytest.mark.process

TASKS = NumberEnv().tasks("train")
SETTINGS = PoolSettings(
    env_id="tests.builders.number_env:NumberEnv",
    env_options={"expert": True},
    episode=EpisodeSettings(max_turns=6),
    workers=WorkerSettings(count=1, envs_per_worker=4),
)


def test_a_worker_that_hangs_at_the_first_start_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_starts(monkeypatch, [20.0])
    stopped = stop_next("RolloutWorker")
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"^env.id .*: a worker process did not start within 20 s"):
        RolloutPool(SETTINGS)
    seconds = time.monotonic() - began
    assert stopped
    wait_until_gone(stopped[0])
    record(
        fault="SIGSTOP of a worker",
        state="at the first start",
        outcome="the run ends after ten times episode.env_timeout_seconds (here 20 s)",
        seconds=seconds,
        lost="nothing yet",
        parity="none",
    )


def test_a_worker_that_hangs_at_a_later_start_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [300.0]
    limit_starts(monkeypatch, limit)
    with RolloutPool(SETTINGS) as pool, ThreadPoolExecutor(1) as thread:
        first = pool._workers.actors[0]
        _, pid = get(first.process_id.remote())
        stopped = stop_next("RolloutWorker")
        os.kill(pid, signal.SIGKILL)
        # The episodes tell of the death.
        episodes = thread.submit(pool.collect_scripted, TASKS, player="expert", seed=0)
        wait_for(lambda: bool(stopped))
        limit[0], second = 1.0, pool._workers.actors[0]
        assert second is not first
        wait_for(lambda: pool._workers.actors[0] is not second)
        limit[0] = 300.0
        assert all(episode.success for episode in episodes.result(timeout=120.0))
        wait_until_gone(stopped[0])
