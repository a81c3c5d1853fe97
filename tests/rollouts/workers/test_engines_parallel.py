"""An engine of two processes, one of which dies: the engine is replaced, and no episode is lost."""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from rollouts import EpisodeSettings, ServingSettings, TrajectoryGroup, WorkerSettings
from rollouts.processes.ray_processes import get
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.engine_processes import traces_of
from tests.builders.models import save_policy
from tests.builders.number_env import NumberEnv

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TASKS = NumberEnv().tasks("train")
SETTINGS = PoolSettings(
    env_id="tests.builders.number_env:NumberEnv",
    episode=EpisodeSettings(max_turns=6, max_action_tokens=24),
    serving=ServingSettings(
        kv_cache_gib=0.1, max_concurrent=16, dtype="float32", tensor_parallel=2
    ),
    workers=WorkerSettings(count=1, envs_per_worker=8),
)


def actor_pid(pool: RolloutPool) -> int:
    assert pool._engines is not None
    _, pid = get(pool._engines.actors[0].process_id.remote())
    return int(pid)


def wait_for_another(pool: RolloutPool, pid: int) -> int:
    """Wait until the engine's process is another one than `pid`, and can play; return its id."""
    assert pool._engines is not None
    limit = time.monotonic() + 600.0
    while not (pool._engines.ready and actor_pid(pool) != pid):
        assert time.monotonic() < limit, "the engine was not replaced"
        time.sleep(0.5)
    return actor_pid(pool)


def play(pool: RolloutPool, on_episode: object = None) -> list[TrajectoryGroup]:
    return pool.collect(
        TASKS,
        group_size=4,
        temperature=1.0,
        seed=0,
        on_episode=on_episode,  # type: ignore[arg-type]
    )


def engine_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("agent-rl-engines-*"))


def test_a_dead_process_costs_its_engine_and_no_episode(tmp_path: Path) -> None:
    before = engine_folders()
    with RolloutPool(SETTINGS, save_policy(tmp_path / "policy", 0)) as pool:
        (folder,) = engine_folders() - before
        first = actor_pid(pool)
        unbroken = play(pool)
        # Idle: nobody asks the engine anything, and it is replaced all the same.
        traces = traces_of(first)
        os.kill(traces.ranks[1], signal.SIGKILL)
        second = wait_for_another(pool, first)
        assert traces.left_after(60.0) == []
        # Playing.
        traces, once = traces_of(second), threading.Event()

        def kill_one(_: object) -> None:
            if not once.is_set():
                once.set()
                os.kill(traces.ranks[0], signal.SIGKILL)

        groups = play(pool, kill_one)
        assert once.is_set()
        third = wait_for_another(pool, second)
        assert traces.left_after(60.0) == []
        episodes = [episode for group in groups for episode in group.trajectories]
        assert all(episode.trains for episode in episodes)
        assert [e.token_ids for e in episodes] == [
            e.token_ids for group in unbroken for e in group.trajectories
        ]
        traces = traces_of(third)
    assert traces.left_after(60.0) == []
    assert not folder.exists()
