"""Real processes with environments that hang, die, raise, answer wrongly and print."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from envs import Task
from rollouts import EpisodeSettings, StopReason, Trajectory, WorkerSettings
from rollouts.processes.ray_processes import when_answered
from rollouts.workers import stream
from rollouts.workers.pool import PoolSettings, RolloutPool
from rollouts.workers.worker_processes import named_variables
from tests.builders.drills import record
from tests.builders.number_env import NumberEnv

pytestmark = pytest.mark.process

TASKS = NumberEnv().tasks("train")
LIMIT_SECONDS = 3.0


def make_pool(advice: dict[str, str], *, workers: int, max_restarts: int = 16) -> RolloutPool:
    """A pool without a model; `advice` has wrong expert commands for some numbers."""
    settings = PoolSettings(
        env_id="tests.builders.number_env:NumberEnv",
        env_options={"expert": True, "advice": advice},
        episode=EpisodeSettings(max_turns=6, env_timeout_seconds=LIMIT_SECONDS),
        workers=WorkerSettings(
            count=workers, envs_per_worker=12 // workers, max_restarts=max_restarts
        ),
    )
    return RolloutPool(settings)


def play(pool: RolloutPool, tasks: Sequence[Task] = TASKS) -> dict[str, Trajectory]:
    """The expert's episodes by task; each must have been reported on the way."""
    reported: list[str] = []
    episodes = pool.collect_scripted(
        tasks, player="expert", seed=0, on_episode=lambda e: reported.append(e.task.id)
    )
    assert [episode.task for episode in episodes] == list(tasks)
    assert sorted(reported) == sorted(task.id for task in tasks)
    return {episode.task.id: episode for episode in episodes}


def errors(episodes: dict[str, Trajectory]) -> dict[str, str]:
    """What is said of the episodes that ended as `ENV_ERROR`, by task."""
    return {name: e.error for name, e in episodes.items() if e.stop_reason is StopReason.ENV_ERROR}


def hung(call: str, task: str) -> str:
    return (
        f"{call} of task {task!r} did not return within 3 s (episode.env_timeout_seconds), and its "
        "process was ended"
    )


def test_a_call_that_does_not_return_costs_one_episode() -> None:
    with make_pool({"3": "hang", "7": "hold"}, workers=2) as pool:
        started = time.monotonic()
        episodes = play(pool)
        seconds = time.monotonic() - started
        assert seconds < 60
        assert errors(episodes) == {
            "number-3": hung("step 'hang'", "number-3"),
            "number-7": hung("step 'hold'", "number-7"),
        }
        assert sum(episode.success for episode in episodes.values()) == 8
        again = play(pool, TASKS[:3])
        assert all(episode.success for episode in again.values()), (
            "the replaced processes do not play"
        )
        record(
            fault="an environment hangs",
            state="step, with the interpreter's lock and without",
            outcome="its worker is replaced after episode.env_timeout_seconds (here 3)",
            seconds=seconds,
            lost="the episodes of the two calls",
            parity="all other tasks won",
        )
        lucky = pool.collect_scripted(TASKS, player="random", seed=0)
        assert 0 < sum(episode.success for episode in lucky) < 10


def test_who_shares_a_process_with_several_that_fail_is_played_to_its_end() -> None:
    advice = {"2": "hang", "4": "crash", "5": "chat", "6": "count", "8": "die"}
    in_reset = [replace(TASKS[0], id=name) for name in ("hang", "crash")]
    with make_pool(advice, workers=1) as pool:
        episodes = play(pool, [*TASKS[:5], *in_reset, *TASKS[5:]])
    failed = errors(episodes)
    died = failed.pop("number-8")
    assert died.startswith("the process that held the environment died in step 'die' of task")
    assert "memory" not in died
    assert failed == {
        "number-2": hung("step 'hang'", "number-2"),
        "number-4": "step 'crash': RuntimeError: the world broke",
        "number-6": "step 'count' returned an int as observation; a TextEnv returns text: str",
        "hang": hung("reset", "hang"),
        "crash": "reset of task 'crash': OSError: no such world",
    }
    assert [turn.action.command for turn in episodes["number-5"].turns] == ["chat"] * 6, (
        "printing does no harm"
    )
    assert all(episodes[f"number-{n}"].success for n in (0, 1, 3, 7, 9))


def test_a_worker_that_the_memory_monitor_ended_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.exceptions import OutOfMemoryError

    once = [1]

    def killed(request: object, callback: Callable[[Callable[[], Any]], None]) -> None:
        def answered(answer: Callable[[], Any]) -> None:
            callback(out_of_memory if once and once.pop() else answer)

        when_answered(request, answered)

    def out_of_memory() -> None:
        raise OutOfMemoryError("1 worker(s) were killed")

    monkeypatch.setattr(stream, "when_answered", killed)
    with make_pool({}, workers=1) as pool:
        failed = [episode for episode in play(pool).values() if not episode.success]
        assert not once
    # At most one was just in a call of its environment, and is blamed for the death.
    assert len(failed) <= 1
    assert all("memory" in episode.error for episode in failed)


def test_restarts_without_an_episode_that_ends_have_a_limit() -> None:
    advice = {str(number): "die" for number in range(10)}
    with (
        make_pool(advice, workers=1, max_restarts=2) as pool,
        pytest.raises(
            ValueError,
            match=r"hung or died 3 times in a row .*workers\.max_restarts: 2.*step 'die' of task",
        ),
    ):
        pool.collect_scripted(TASKS, player="expert", seed=0)


@pytest.mark.parametrize(
    ("fault", "seconds", "sentence"),
    [
        ("hang", 1.0, r"its constructor did not return within 1 s.*episode\.env_timeout_seconds"),
        # Ray needs a moment to tell of a death.
        ("die", 60.0, r"a worker process died in its constructor"),
    ],
)
def test_a_constructor_that_fails_in_workers_ends_the_start(
    fault: str, seconds: float, sentence: str
) -> None:
    settings = PoolSettings(
        env_id=f"{__name__}:Unmade",
        env_options={"fault": fault},
        episode=EpisodeSettings(env_timeout_seconds=seconds),
        workers=WorkerSettings(count=1, envs_per_worker=1),
    )
    with pytest.raises(ValueError, match=sentence):
        RolloutPool(settings)


class Unmade(NumberEnv):
    """Hangs or dies in its constructor."""

    def __init__(self, *, fault: str) -> None:
        super().__init__()
        if fault == "hang":
            time.sleep(100)
        os._exit(3)


def test_the_variables_that_options_name_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMES", "/games")
    monkeypatch.setenv("WORLD", "3")
    monkeypatch.delenv("MISSING", raising=False)
    options = {"data": "${GAMES}/train", "more": [{"name": "$WORLD.z8"}, 5], "cost": "$5 $MISSING"}
    assert named_variables(options) == {"GAMES": "/games", "WORLD": "3"}
