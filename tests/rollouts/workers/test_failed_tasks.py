from dataclasses import replace

import pytest

from envs import Task
from rollouts import StopReason, Trajectory
from rollouts.workers.failed_tasks import FailedTasks
from tests.builders.episodes import TASK, trajectory, turn


def task(number: int) -> Task:
    return replace(TASK, id=f"t{number}")


def bad(number: int, error: str = "reset: OSError: no file") -> Trajectory:
    return trajectory(task=task(number), stop_reason=StopReason.ENV_ERROR, error=error)


def too_long(number: int) -> Trajectory:
    error = f"task 't{number}': the first prompt has 900 tokens"
    return trajectory(task=task(number), stop_reason=StopReason.CONTEXT_FULL, error=error)


def good(number: int) -> Trajectory:
    return trajectory(turn(), task=task(number), stop_reason=StopReason.MAX_TURNS)


def test_few_failed_tasks_are_left_out_with_a_line() -> None:
    failed = FailedTasks("room", most=0.5, tasks=4)
    failed.add([good(0), too_long(2), bad(1), good(3)])
    failed.check()
    assert failed.summary() == (
        "2 of 4 tasks could not be played and are left out; the first: task 't2': the first prompt "
        "has 900 tokens"
    )


def test_more_than_the_share_ends_the_run() -> None:
    failed = FailedTasks("room", most=0.5, tasks=4)
    failed.add([bad(1), bad(2), bad(3), good(4)])
    with pytest.raises(
        ValueError,
        match=r"env\.id room: 3 of 4 tasks .*the first: task 't1': reset: OSError: no file; mend "
        r".*workers\.max_failed_share \(now 0\.5\)",
    ):
        failed.check()


def test_if_all_fail_no_share_helps() -> None:
    failed = FailedTasks("room", most=1.0, tasks=2)
    failed.add([bad(1), bad(2)])
    with pytest.raises(ValueError, match="2 of 2 tasks") as stopped:
        failed.check()
    assert "max_failed_share" not in str(stopped.value)


def test_a_few_of_many_are_not_judged() -> None:
    failed = FailedTasks("room", most=0.5, tasks=1000)
    failed.add([bad(number) for number in range(9)])
    failed.check()
    failed.add([bad(9)])
    with pytest.raises(ValueError, match="10 of 10 tasks"):
        failed.check()


def test_a_task_that_plays_in_one_episode_has_not_failed() -> None:
    failed = FailedTasks("room", most=0.0, tasks=2)
    failed.add([bad(1), good(1), good(2)])
    failed.check()
    assert failed.summary() == ""
    failed.add([bad(1)])
    assert failed.summary()
    failed.add([good(1)])
    assert failed.summary() == ""
