"""Drills: real workers that are killed and stopped, in a call of their environment and outside."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from envs import Task
from rollouts import EpisodeSettings, StopReason, Trajectory, WorkerSettings
from rollouts.processes.ray_processes import get
from rollouts.workers.calls import Call
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.drills import record
from tests.builders.number_env import NumberEnv, Result

pytestmark = pytest.mark.process

TASKS = NumberEnv().tasks("train")
LIMIT_SECONDS = 8.0
DEADLINE_SECONDS = 60.0


def pool_of(
    env: str, advice: dict[str, str], workers: int, limit: float = LIMIT_SECONDS
) -> RolloutPool:
    settings = PoolSettings(
        env_id=env,
        env_options={"expert": True, "advice": advice},
        episode=EpisodeSettings(max_turns=6, env_timeout_seconds=limit),
        workers=WorkerSettings(count=workers, envs_per_worker=3),
    )
    return RolloutPool(settings)


@pytest.fixture(scope="module")
def pool() -> Iterator[RolloutPool]:
    """Its expert hangs at number 5."""
    with pool_of("tests.builders.number_env:NumberEnv", {"5": "hang"}, workers=2) as pool:
        yield pool


def play(pool: RolloutPool, tasks: Sequence[Task] = TASKS) -> list[Trajectory]:
    """The expert's episodes; each must have been told once."""
    told: list[str] = []
    episodes = pool.collect_scripted(
        tasks, player="expert", seed=0, on_episode=lambda e: told.append(e.task.id)
    )
    assert sorted(told) == sorted(task.id for task in tasks)
    return episodes


def without(number: int) -> list[Task]:
    return [task for task in TASKS if task.id != f"number-{number}"]


def pid_of(pool: RolloutPool, worker: int) -> int:
    _, pid = get(pool._workers.actors[worker].process_id.remote())
    return int(pid)


def when_called(pool: RolloutPool, is_it: Callable[[Call], bool], number: int) -> list[float]:
    """Let a thread send a signal to the first worker that is in a call; the time of it, soon."""
    pids = [pid_of(pool, worker) for worker in range(2)]
    sent: list[float] = []

    def watch() -> None:
        while not sent:
            for worker, call in pool._nodes.calls().items():
                if is_it(call):
                    sent.append(time.monotonic())
                    os.kill(pids[worker], number)
                    return
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    return sent


@pytest.mark.parametrize("state", ["reset", "step"])
def test_a_worker_that_is_killed_in_a_call_costs_that_episode(
    state: str, pool: RolloutPool
) -> None:
    unbroken = play(pool, without(5))
    if state == "reset":
        tasks = [*without(5), replace(TASKS[0], id="hang")]
        sent = when_called(pool, lambda call: call.is_reset and call.seconds > 1.0, signal.SIGKILL)
    else:
        tasks = TASKS
        sent = when_called(pool, lambda call: call.command == "hang", signal.SIGKILL)
    episodes = play(pool, tasks)
    seconds = time.monotonic() - sent[0]
    assert seconds < DEADLINE_SECONDS
    (failed,) = [episode for episode in episodes if episode.stop_reason is StopReason.ENV_ERROR]
    assert f"died in {state}" in failed.error
    # The others, some of which were played again, are the same to the last token.
    others = [episode.token_ids for episode in episodes if episode is not failed]
    assert others == [episode.token_ids for episode in unbroken]
    record(
        fault="SIGKILL of a worker",
        state=f"{state} of an environment",
        outcome="replaced, its other episodes played again",
        seconds=seconds,
        lost="the episode of that call",
        parity="same tokens",
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_ends_or_stops_outside_of_calls_costs_nothing(
    number: signal.Signals, pool: RolloutPool
) -> None:
    unbroken = play(pool, without(5))
    victim = pid_of(pool, 0)
    began = time.monotonic()
    os.kill(victim, number)
    episodes = play(pool, without(5))
    seconds = time.monotonic() - began
    assert seconds < DEADLINE_SECONDS
    assert [e.token_ids for e in episodes] == [e.token_ids for e in unbroken]
    assert pid_of(pool, 0) != victim
    assert not os.path.exists(f"/proc/{victim}")
    stopped = number == signal.SIGSTOP
    record(
        fault=f"{number.name} of a worker",
        state="idle",
        outcome=f"replaced{' after 20 s without an answer' if stopped else ''}, its "
        "episodes played again",
        seconds=seconds,
        lost="nothing",
        parity="same tokens",
    )


class Hungry(NumberEnv):
    """The command `eat` takes memory until somebody ends the process, or 8 GiB are full."""

    def step(self, action: str) -> Result:
        eaten: list[bytearray] = []
        while action == "eat" and len(eaten) < 128:
            eaten.append(bytearray(os.urandom(1) * 2**26))
            time.sleep(0.02)
        return super().step(action)


def test_a_worker_that_eats_all_memory_costs_that_episode(
    pool: RolloutPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one: it ends the pool, because Ray reads the limit when it starts."""
    from ray._private.utils import get_system_memory, get_used_memory

    pool.close()
    limit = (get_used_memory() + 2 * 2**30) / get_system_memory()
    if limit > 0.9:
        pytest.skip("too little memory is free")
    monkeypatch.setenv("RAY_memory_usage_threshold", str(limit))
    with pool_of(f"{__name__}:Hungry", {"5": "eat"}, workers=1, limit=60.0) as hungry:
        began = time.monotonic()
        episodes = play(hungry)
        seconds = time.monotonic() - began
    failed = [episode for episode in episodes if episode.stop_reason is StopReason.ENV_ERROR]
    assert [episode.task.id for episode in failed] == ["number-5"]
    assert "died in step 'eat'" in failed[0].error
    assert "memory" in failed[0].error
    assert sum(episode.success for episode in episodes) == 9
    record(
        fault="an environment eats all memory",
        state="step of an environment",
        outcome="Ray's memory monitor ends the worker, which is replaced",
        seconds=seconds,
        lost="the episode of that call",
        parity="all other tasks won",
    )
