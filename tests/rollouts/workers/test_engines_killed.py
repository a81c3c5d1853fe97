"""Drills: a real engine that is killed while it is idle or loads weights, and torn weights."""

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollouts import EpisodeSettings, ServingSettings, TrajectoryGroup, WorkerSettings
from rollouts.processes.ray_processes import get
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.drills import record
from tests.builders.models import save_policy
from tests.builders.number_env import NumberEnv

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TASKS = NumberEnv().tasks("train")
DEADLINE_SECONDS = 150.0
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("policy"), 0)


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[RolloutPool]:
    settings = PoolSettings(
        env_id="tests.builders.number_env:NumberEnv",
        episode=EpisodeSettings(max_turns=4, max_action_tokens=16),
        serving=ServingSettings(kv_cache_gib=0.1, max_concurrent=16, deterministic=True),
        workers=WorkerSettings(count=1, envs_per_worker=16),
    )
    with RolloutPool(settings, folder) as pool:
        yield pool


def play(pool: RolloutPool) -> list[TrajectoryGroup]:
    groups = pool.collect(TASKS, group_size=2, temperature=1.0, seed=0)
    assert all(episode.trains for group in groups for episode in group.trajectories)
    return groups


def tokens(groups: list[TrajectoryGroup]) -> list[tuple[int, ...]]:
    return [episode.token_ids for group in groups for episode in group.trajectories]


def versions(groups: list[TrajectoryGroup]) -> set[int]:
    return {
        version
        for group in groups
        for episode in group.trajectories
        for turn in episode.turns
        for version, _ in turn.completion.versions
    }


def pid_of(pool: RolloutPool) -> int:
    assert pool._engines is not None
    _, pid = get(pool._engines.actors[0].process_id.remote())
    return int(pid)


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def has_reader(pipe: Path) -> bool:
    """Whether a process waits to read a pipe. It goes on then, so act at once."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    return True


def sync(pool: RolloutPool, folder: Path, version: int) -> threading.Thread:
    thread = threading.Thread(target=pool.sync_weights, args=(folder, version), daemon=True)
    thread.start()
    return thread


def test_an_engine_that_is_killed_while_idle(pool: RolloutPool) -> None:
    unbroken, victim = play(pool), pid_of(pool)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    groups = play(pool)
    seconds = time.monotonic() - began
    assert seconds < DEADLINE_SECONDS
    assert tokens(groups) == tokens(unbroken)
    assert pid_of(pool) != victim
    record(
        fault="SIGKILL of the engine",
        state="idle",
        outcome="replaced",
        seconds=seconds,
        lost="nothing",
        parity="same tokens",
    )


def test_an_engine_that_is_killed_while_it_loads_weights(
    pool: RolloutPool, folder: Path, tmp_path: Path
) -> None:
    """The file of the weights is a pipe, so the engine loads until somebody writes there."""
    unbroken, victim = play(pool), pid_of(pool)
    new = tmp_path / "new"
    shutil.copytree(folder, new)
    (new / WEIGHTS).unlink()
    os.mkfifo(new / WEIGHTS)
    syncing = sync(pool, new, 1)
    wait_for(lambda: has_reader(new / WEIGHTS))
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    shutil.copy(folder / WEIGHTS, tmp_path / WEIGHTS)
    os.replace(tmp_path / WEIGHTS, new / WEIGHTS)
    groups = play(pool)
    seconds = time.monotonic() - began
    assert seconds < DEADLINE_SECONDS
    assert not syncing.is_alive()
    assert (versions(groups), tokens(groups)) == ({1}, tokens(unbroken))
    record(
        fault="SIGKILL of the engine",
        state="loading weights",
        outcome="replaced, serves the new weights from its start",
        seconds=seconds,
        lost="nothing",
        parity="same tokens",
    )


def test_weights_that_are_torn_end_the_engine_and_not_the_run(
    pool: RolloutPool, folder: Path, tmp_path: Path
) -> None:
    unbroken, victim = play(pool), pid_of(pool)
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    whole = (torn / WEIGHTS).read_bytes()
    (torn / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    began = time.monotonic()
    syncing = sync(pool, torn, 2)
    wait_for(lambda: not Path(f"/proc/{victim}").exists())
    (torn / WEIGHTS).write_bytes(whole)
    groups = play(pool)
    seconds = time.monotonic() - began
    assert seconds < DEADLINE_SECONDS
    assert not syncing.is_alive()
    assert (versions(groups), tokens(groups)) == ({2}, tokens(unbroken))
    record(
        fault="weights cut in half",
        state="loading weights",
        outcome="the engine ends, and is replaced",
        seconds=seconds,
        lost="nothing",
        parity="same tokens",
    )
