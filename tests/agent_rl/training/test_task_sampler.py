import pytest

from agent_rl.training.task_sampler import TaskSampler
from envs import Task


def tasks(count: int, families: int = 1) -> list[Task]:
    return [
        Task(env_id="e", split="train", family=f"f{i % families}", id=f"t{i:02d}")
        for i in range(count)
    ]


def dealt(sampler: TaskSampler, first: int, count: int) -> list[Task]:
    return [sampler.task(number) for number in range(first, first + count)]


def test_every_task_once_an_epoch_in_another_order() -> None:
    sampler = TaskSampler(tasks(5), seed=1)
    first, second = dealt(sampler, 0, 5), dealt(sampler, 5, 5)
    assert sorted(t.id for t in first) == sorted(t.id for t in second) == [t.id for t in tasks(5)]
    assert first != second


def test_families_come_evenly() -> None:
    uneven = [
        *tasks(12, families=3),
        *(Task(env_id="e", split="train", family="rare", id=f"r{i}") for i in range(2)),
    ]
    sampler = TaskSampler(uneven, seed=1)
    for epoch in range(2):
        families = [task.family for task in dealt(sampler, 14 * epoch, 14)]
        thirds = [families[:3], families[4:7], families[7:10], families[11:]]
        assert all(sorted(third) == ["f0", "f1", "f2"] for third in thirds)
        assert families[3] == families[10] == "rare"


def test_a_resumed_sampler_deals_what_the_unbroken_one_deals() -> None:
    unbroken = TaskSampler(tasks(5), seed=1)
    for number in (3, 8):
        resumed = TaskSampler(list(reversed(tasks(5))), seed=1)
        assert resumed.number_of(unbroken.state_dict(number)) == number
        assert dealt(resumed, number, 9) == dealt(unbroken, number, 9)
    # In any order: a task may be looked up again after later ones.
    assert dealt(unbroken, 0, 3) == dealt(TaskSampler(tasks(5), seed=1), 0, 3)


def test_a_state_of_other_data_is_refused() -> None:
    state = TaskSampler(tasks(5), seed=1).state_dict(0)
    for other in (
        TaskSampler(tasks(6), seed=1),
        TaskSampler(tasks(6)[1:], seed=1),
        TaskSampler(tasks(5), seed=2),
    ):
        with pytest.raises(ValueError, match=r"resume with the same data, train\.only and seed"):
            other.number_of(state)


def test_no_task_is_an_error() -> None:
    with pytest.raises(ValueError, match="no task"):
        TaskSampler([], seed=0)
