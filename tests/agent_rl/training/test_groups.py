from typing import Any

import pytest

from agent_rl.config import TrainSettings
from agent_rl.training.groups import outcome, play_groups
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import StopReason, TrajectoryGroup
from rollouts.workers.failed_tasks import FailedTasks
from tests.builders.episodes import group, trajectory, turn

TASKS = [Task(env_id="e", split="train", family="f", id=f"{number:02d}") for number in range(40)]
WON = StopReason.SUCCESS
END = {True: WON, False: StopReason.MAX_TURNS}


def group_of(task: Task, *reasons: StopReason) -> TrajectoryGroup:
    """A group with one episode of one turn for each reason; only a success earns 1."""
    return group(
        *(
            trajectory(turn(reward=float(reason is WON)), task=task, stop_reason=reason)
            for reason in reasons
        )
    )


class World:
    """Plays tasks whose outcome their number says: two of four fail, one of four succeeds, one of
    four is mixed.
    """

    def __init__(self) -> None:
        self.already: list[int] = []

    def play(self, tasks: list[Task], already: int) -> list[TrajectoryGroup]:
        self.already.append(already)
        ends = [(False, False), (True, True), (False, True), (False, False)]
        return [
            group_of(task, *(END[success] for success in ends[int(task.id) % 4])) for task in tasks
        ]


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(tasks_per_step=8, num_generations=2, **changes)


def counter(tasks: int = len(TASKS)) -> FailedTasks:
    return FailedTasks("e", most=0.5, tasks=tasks)


def test_outcomes_leave_out_what_says_nothing_about_the_policy() -> None:
    assert outcome(group_of(TASKS[0], StopReason.SUCCESS, StopReason.MAX_TURNS)) == "mixed"
    assert outcome(group_of(TASKS[0], StopReason.SUCCESS, StopReason.ENV_ERROR)) == "all_succeed"
    assert outcome(group_of(TASKS[0], StopReason.SUCCESS, StopReason.TIMEOUT)) == "mixed"
    assert outcome(group_of(TASKS[0], StopReason.ENV_ERROR)) == "none_trains"


def test_without_dropping_a_step_is_one_round() -> None:
    world = World()
    groups = play_groups(TaskSampler(TASKS, seed=0), world.play, settings(), counter())
    assert groups.kept == groups.played
    assert len(groups.played) == 8
    assert world.already == [0]


def test_dropped_groups_are_replaced_up_to_the_bound() -> None:
    world = World()
    sampler = TaskSampler(TASKS, seed=0)
    groups = play_groups(
        sampler,
        world.play,
        settings(drop_groups=("all_succeed", "all_fail"), max_extra_groups=10),
        counter(),
    )
    assert len(groups.played) == 18
    assert all(int(kept.task.id) % 4 == 2 for kept in groups.kept)
    assert 0 < len(groups.kept) < 8, "a quarter of 18 is mixed"
    counts = groups.counts()
    assert (
        counts["groups"]
        == counts["groups_all_succeed"] + counts["groups_all_fail"] + counts["groups_mixed"]
        == 18
    )
    assert counts["groups_dropped"] == 18 - counts["groups_mixed"]
    assert world.already[:2] == [0, 8]
    assert sampler.state_dict()["position"] == 18, "a resumed run would play the same tasks again"


def test_only_the_named_outcomes_are_dropped() -> None:
    groups = play_groups(
        TaskSampler(TASKS, seed=0), World().play, settings(drop_groups=("all_fail",)), counter()
    )
    assert {outcome(kept) for kept in groups.kept} == {"all_succeed", "mixed"}


def test_a_group_that_broke_is_never_all_that_is_kept() -> None:
    def play(tasks: list[Task], already: int) -> list[TrajectoryGroup]:
        return [
            group_of(task, StopReason.ENV_ERROR if task.id == "00" else StopReason.SUCCESS)
            for task in tasks
        ]

    groups = play_groups(
        TaskSampler(TASKS[:8], seed=0), play, settings(drop_groups=("all_succeed",)), counter()
    )
    assert len(groups.played) == 8
    assert [outcome(kept) for kept in groups.kept] == ["all_succeed"] * 7, (
        "the broken group trains nothing"
    )
    assert groups.counts()["groups_none_trains"] == 1


def test_a_step_whose_tasks_all_fail_goes_on_with_others() -> None:
    def play(tasks: list[Task], already: int) -> list[TrajectoryGroup]:
        broken = {"13", "07"}
        return [
            group_of(task, StopReason.ENV_ERROR if task.id in broken else StopReason.SUCCESS)
            for task in tasks
        ]

    sampler = TaskSampler([task for task in TASKS if task.id in {"13", "07", "20"}], seed=0)
    one = TrainSettings(tasks_per_step=1, num_generations=2)
    for _ in range(6):
        groups = play_groups(sampler, play, one, counter())
        assert [kept.task.id for kept in groups.kept] == ["20"]


def test_a_run_in_which_most_tasks_fail_stops_and_names_the_first() -> None:
    def play(tasks: list[Task], already: int) -> list[TrajectoryGroup]:
        return [group_of(task, StopReason.ENV_ERROR) for task in tasks]

    one = TrainSettings(tasks_per_step=1, num_generations=2)
    first = TaskSampler(TASKS, seed=0).next(1)[0].id
    with pytest.raises(ValueError, match=rf"10 of 10 tasks could not be played.*'{first}'"):
        play_groups(TaskSampler(TASKS, seed=0), play, one, counter())


def test_a_step_with_nothing_to_learn_from_is_taken_all_the_same() -> None:
    failing = [task for task in TASKS if int(task.id) % 4 == 0]
    groups = play_groups(
        TaskSampler(failing, seed=0), World().play, settings(drop_groups=("all_fail",)), counter()
    )
    assert len(groups.kept) == len(groups.played) == 8


def test_extra_groups_without_dropping_are_refused() -> None:
    with pytest.raises(ValueError, match="max_extra_groups: 4 has no effect without drop_groups"):
        settings(max_extra_groups=4)
