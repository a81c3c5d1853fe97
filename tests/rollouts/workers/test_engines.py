"""Real engines that are killed, stopped and given new weights while episodes play."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs import Task
from rollouts import EpisodeSettings, ServingSettings, TrajectoryGroup, WorkerSettings
from rollouts.processes.ray_processes import get
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.drills import record
from tests.builders.models import save_policy
from tests.builders.number_env import NumberEnv

pytestmark = pytest.mark.engine

TASKS = NumberEnv().tasks("train")
STEP_SECONDS = 30.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [save_policy(tmp_path_factory.mktemp(f"policy-{seed}"), seed) for seed in range(2)]


@pytest.fixture(scope="module")
def pool(folders: list[Path]) -> Iterator[RolloutPool]:
    settings = PoolSettings(
        env_id="tests.builders.number_env:NumberEnv",
        episode=EpisodeSettings(max_turns=6, max_action_tokens=24),
        serving=ServingSettings(
            kv_cache_gib=0.25,
            max_concurrent=16,
            replicas=2,
            dtype="float32",
            step_timeout_seconds=STEP_SECONDS,
        ),
        workers=WorkerSettings(count=1, envs_per_worker=8),
    )
    with RolloutPool(settings, folders[0]) as pool:
        yield pool


def play(pool: RolloutPool, seed: int = 0) -> list[TrajectoryGroup]:
    return pool.collect(TASKS, group_size=4, temperature=1.0, seed=seed)


def tokens(groups: list[TrajectoryGroup]) -> list[tuple[int, ...]]:
    return [episode.token_ids for group in groups for episode in group.trajectories]


def pid_of(pool: RolloutPool, number: int) -> int:
    assert pool._engines is not None
    _, pid = get(pool._engines.actors[number].process_id.remote())
    return int(pid)


def during(pool: RolloutPool, do: object, seed: int = 0) -> list[TrajectoryGroup]:
    """Play, and call `do` as soon as the first episode has ended."""
    once = threading.Event()

    def on_episode(_: object) -> None:
        if not once.is_set():
            once.set()
            threading.Thread(target=do).start()  # type: ignore[arg-type]

    groups = pool.collect(TASKS, group_size=4, temperature=1.0, seed=seed, on_episode=on_episode)
    assert once.is_set()
    return groups


def signalled(pool: RolloutPool, pid: int, number: int) -> tuple[list[TrajectoryGroup], float]:
    """Play, and send a signal meanwhile; also returns the seconds from it to the last episode."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(pid, number)

    groups = during(pool, send)
    return groups, time.monotonic() - sent[0]


def same_share(first: list[TrajectoryGroup], second: list[TrajectoryGroup]) -> float:
    pairs = list(zip(tokens(first), tokens(second), strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)


def test_both_engines_play_and_a_group_stays_with_one(pool: RolloutPool) -> None:
    play(pool)
    assert pool._engines is not None
    requests = [get(actor.statistics.remote()).requests for actor in pool._engines.actors]
    assert min(requests) > 0.2 * sum(requests)
    usage = pool.usage()
    assert usage.engines.requests == sum(requests)
    assert usage.engines.sampled_tokens >= usage.engines.requests
    assert 0.0 < usage.places.played < usage.places.total


@pytest.mark.slow
def test_an_engine_that_is_killed_costs_no_episode(pool: RolloutPool) -> None:
    unbroken = play(pool)
    victim = pid_of(pool, 0)
    groups, seconds = signalled(pool, victim, signal.SIGKILL)
    assert all(episode.trains for group in groups for episode in group.trajectories)
    # The other engine has played on alone.
    assert pool._engines is not None
    assert not pool._engines.ready
    # The requests are sent again with their seeds.
    assert same_share(groups, unbroken) > 0.9
    assert pid_of(pool, 0) != victim
    record(
        fault="SIGKILL of one of two engines",
        state="generating",
        outcome="replaced, its requests sent again",
        seconds=seconds,
        lost="half completions",
        parity="same tokens in over 90 % of episodes",
    )


@pytest.mark.slow
def test_an_engine_that_hangs_is_replaced(pool: RolloutPool) -> None:
    unbroken = play(pool)
    victim = pid_of(pool, 1)
    groups, seconds = signalled(pool, victim, signal.SIGSTOP)
    assert all(episode.trains for group in groups for episode in group.trajectories)
    assert same_share(groups, unbroken) > 0.9
    assert seconds > STEP_SECONDS
    assert pid_of(pool, 1) != victim
    assert not Path(f"/proc/{victim}").exists(), "the hung process is still there"
    record(
        fault="SIGSTOP of one of two engines",
        state="generating",
        outcome="replaced after serving.step_timeout_seconds (here 30), its requests sent again",
        seconds=seconds,
        lost="half completions",
        parity="same tokens in over 90 % of episodes",
    )


def test_weights_come_in_while_episodes_play(pool: RolloutPool, folders: list[Path]) -> None:
    groups = during(pool, lambda: pool.sync_weights(folders[1], version=3), seed=1)
    versions: set[int] = set()
    for episode in (episode for group in groups for episode in group.trajectories):
        assert episode.trains
        of_episode = [v for turn in episode.turns for v, _ in turn.completion.versions]
        assert of_episode == sorted(of_episode)
        versions.update(of_episode)
    assert versions == {0, 3}
    later = {v for e in tokens_of(play(pool)) for v in e}
    assert later == {3}


def tokens_of(groups: list[TrajectoryGroup]) -> list[list[int]]:
    return [
        [v for turn in episode.turns for v, _ in turn.completion.versions]
        for group in groups
        for episode in group.trajectories
    ]


def test_groups_go_on_while_the_caller_does_something_else(pool: RolloutPool) -> None:
    def begin(task: Task, seed: int) -> object:
        return pool.begin(task, group_size=2, temperature=1.0, seed=seed)

    futures = [begin(task, seed) for seed, task in enumerate(TASKS)]
    urgent = pool.collect(TASKS[:1], group_size=1, temperature=1.0, seed=9)
    assert not all(future.done() for future in futures)  # type: ignore[attr-defined]
    assert urgent[0].trajectories[0].trains
    for future, task in zip(futures, TASKS, strict=True):
        episodes = future.result(timeout=60)  # type: ignore[attr-defined]
        assert [episode.task for episode in episodes] == [task, task]
