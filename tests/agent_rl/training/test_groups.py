from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_rl.config import TrainSettings
from agent_rl.training.groups import chosen_groups, outcome, step_length
from envs import Task
from rollouts import StopReason, TrajectoryGroup
from tests.builders.episodes import group, trajectory, turn

TASKS = [Task(env_id="e", split="train", family="f", id=f"{number:02d}") for number in range(40)]


def group_of(task: Task, *reasons: StopReason) -> TrajectoryGroup:
    """A group with one episode of one turn for each reason; only a success earns 1."""
    return group(
        *(
            trajectory(
                turn(reward=float(reason is StopReason.SUCCESS)), task=task, stop_reason=reason
            )
            for reason in reasons
        )
    )


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({"tasks_per_step": 8, "num_generations": 2, **changes})


MIXED = group_of(TASKS[0], StopReason.SUCCESS, StopReason.MAX_TURNS)
WON_ALL = group_of(TASKS[1], StopReason.SUCCESS)
LOST_ALL = group_of(TASKS[2], StopReason.MAX_TURNS)
BROKEN = group_of(TASKS[3], StopReason.ENV_ERROR)


def test_outcomes_leave_out_what_says_nothing_about_the_policy() -> None:
    assert outcome(group_of(TASKS[0], StopReason.SUCCESS, StopReason.MAX_TURNS)) == "mixed"
    assert outcome(group_of(TASKS[0], StopReason.SUCCESS, StopReason.ENV_ERROR)) == "all_succeed"
    assert outcome(group_of(TASKS[0], StopReason.SUCCESS, StopReason.TIMEOUT)) == "mixed"
    assert outcome(group_of(TASKS[0], StopReason.ENV_ERROR)) == "none_trains"


def test_a_step_without_dropping_has_a_fixed_length() -> None:
    two = settings(tasks_per_step=2)
    assert step_length([], two) is None
    assert step_length([MIXED], two) is None
    assert step_length([MIXED, WON_ALL, LOST_ALL], two) == 2
    assert step_length([None, None, None], two) == 2
    # A group that broke takes the place of one that trains.
    assert step_length([BROKEN, WON_ALL, WON_ALL], two) == 2


def test_dropped_groups_are_replaced_up_to_the_bound() -> None:
    two = settings(tasks_per_step=2, drop_groups=("all_fail",), max_extra_groups=2)
    assert step_length([WON_ALL, MIXED, MIXED], two) == 2
    assert step_length([LOST_ALL, MIXED], two) is None
    assert step_length([LOST_ALL, MIXED, LOST_ALL], two) is None
    assert step_length([LOST_ALL, MIXED, LOST_ALL, LOST_ALL, MIXED], two) == 4
    # What is still played counts as kept, and may turn out to be dropped.
    assert step_length([None, MIXED, None, None], two) == 2
    assert step_length([LOST_ALL, MIXED, None, None], two) == 3


def test_a_step_whose_tasks_all_fail_goes_on_with_others() -> None:
    one = settings(tasks_per_step=1)
    assert step_length([BROKEN], one) is None
    assert step_length([BROKEN, BROKEN, None], one) == 3
    assert step_length([BROKEN, BROKEN, LOST_ALL, MIXED], one) == 3


@given(
    st.lists(st.sampled_from([None, MIXED, WON_ALL, LOST_ALL, BROKEN]), max_size=12),
    st.randoms(use_true_random=False),
)
def test_what_ends_never_moves_a_group_to_a_later_step(
    groups: list[TrajectoryGroup | None], chance: Any
) -> None:
    two = settings(tasks_per_step=2, drop_groups=("all_fail",), max_extra_groups=1)

    def steps(groups: list[TrajectoryGroup | None]) -> list[int]:
        """The step of each group."""
        of_groups: list[int] = []
        while (length := step_length(groups[len(of_groups) :], two)) is not None:
            of_groups += [of_groups[-1] + 1 if of_groups else 0] * length
        last = of_groups[-1] + 1 if of_groups else 0
        return of_groups + [last] * (len(groups) - len(of_groups))

    ended = [
        chance.choice([MIXED, WON_ALL, LOST_ALL, BROKEN]) if group is None else group
        for group in groups
    ]
    assert all(after <= before for before, after in zip(steps(groups), steps(ended), strict=True))


def test_those_that_train_are_chosen_and_counted() -> None:
    dropping = settings(drop_groups=("all_succeed", "all_fail"))
    groups = chosen_groups([MIXED, WON_ALL, BROKEN, LOST_ALL, MIXED], dropping)
    assert groups.kept == [MIXED, MIXED]
    assert groups.counts() == {
        "groups": 5,
        "groups_dropped": 3,
        "groups_all_succeed": 1,
        "groups_all_fail": 1,
        "groups_mixed": 2,
        "groups_none_trains": 1,
    }
    assert chosen_groups([WON_ALL, LOST_ALL], settings(drop_groups=("all_fail",))).kept == [WON_ALL]


def test_if_all_would_be_dropped_none_is_but_a_group_that_broke_never_trains() -> None:
    dropping = settings(drop_groups=("all_succeed", "all_fail"))
    assert chosen_groups([WON_ALL, BROKEN], dropping).kept == [WON_ALL]
    assert chosen_groups([BROKEN], settings()).kept == []


def test_extra_groups_without_dropping_are_refused() -> None:
    with pytest.raises(ValueError, match="max_extra_groups: 4 has no effect without drop_groups"):
        settings(max_extra_groups=4)
