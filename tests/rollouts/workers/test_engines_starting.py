"""Engines that hang while they start."""

import os
import signal
import time
from pathlib import Path

import pytest

from rollouts import EpisodeSettings, ServingSettings, WorkerSettings
from rollouts.processes.ray_failures import ProcessesGone
from rollouts.processes.ray_processes import get
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.drills import record
from tests.builders.models import save_policy
from tests.builders.number_env import NumberEnv
from tests.builders.starts import limit_starts, stop_next, wait_for, wait_until_gone

pytestmark = pytest.mark.engine

TASKS = NumberEnv().tasks("train")
SETTINGS = PoolSettings(
    env_id="tests.builders.number_env:NumberEnv",
    episode=EpisodeSettings(max_turns=3, max_action_tokens=8),
    serving=ServingSettings(kv_cache_gib=0.1, max_concurrent=4),
    workers=WorkerSettings(count=1, envs_per_worker=4),
)


def test_an_engine_that_hangs_at_the_first_start_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = save_policy(tmp_path / "policy", 0)
    limit_starts(monkeypatch, [30.0])
    stopped = stop_next("PolicyActor")
    began = time.monotonic()
    with pytest.raises(ProcessesGone, match=r"^the serving engine did not start within 30 s; if"):
        RolloutPool(SETTINGS, policy)
    seconds = time.monotonic() - began
    assert stopped
    wait_until_gone(stopped[0])
    record(
        fault="SIGSTOP of an engine",
        state="at the first start",
        outcome="the run ends after ten times serving.step_timeout_seconds (here 30 s)",
        seconds=seconds,
        lost="nothing yet",
        parity="none",
    )


@pytest.mark.slow
def test_an_engine_that_hangs_at_a_later_start_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit = [300.0]
    limit_starts(monkeypatch, limit)
    with RolloutPool(SETTINGS, save_policy(tmp_path / "policy", 0)) as pool:
        assert pool._engines is not None
        first = pool._engines.actors[0]
        _, pid = get(first.process_id.remote())
        stopped = stop_next("PolicyActor")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: bool(stopped))
        limit[0], second = 1.0, pool._engines.actors[0]
        assert second is not first
        engines = pool._engines
        wait_for(lambda: engines.actors[0] is not second)
        limit[0] = 300.0
        groups = pool.collect(TASKS[:2], group_size=2, temperature=1.0, seed=0)
        assert all(episode.trains for group in groups for episode in group.trajectories)
        wait_until_gone(stopped[0])
