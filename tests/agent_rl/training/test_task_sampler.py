import pytest

from agent_rl.training.task_sampler import TaskSampler
from envs import Task


def tasks(count: int, families: int = 1) -> list[Task]:
    return [
        Task(env_id="e", split="train", family=f"f{i % families}", id=f"t{i:02d}")
        for i in range(count)
    ]


def test_every_task_once_an_epoch_in_another_order() -> None:
    sampler = TaskSampler(tasks(5), seed=1)
    first, second = sampler.next(5), sampler.next(5)
    assert sorted(t.id for t in first) == sorted(t.id for t in second) == [t.id for t in tasks(5)]
    assert first != second


def test_families_come_evenly() -> None:
    uneven = [
        *tasks(12, families=3),
        *(Task(env_id="e", split="train", family="rare", id=f"r{i}") for i in range(2)),
    ]
    sampler = TaskSampler(uneven, seed=1)
    for _ in range(2):
        families = [task.family for task in sampler.next(14)]
        thirds = [families[:3], families[4:7], families[7:10], families[11:]]
        assert all(sorted(third) == ["f0", "f1", "f2"] for third in thirds)
        assert families[3] == families[10] == "rare"


def test_a_resumed_sampler_deals_what_the_unbroken_one_deals() -> None:
    unbroken = TaskSampler(tasks(5), seed=1)
    unbroken.next(3)
    state = unbroken.state_dict()
    resumed = TaskSampler(list(reversed(tasks(5))), seed=1)
    resumed.load_state_dict(state)
    assert resumed.next(9) == unbroken.next(9)


def test_a_state_of_other_data_is_refused() -> None:
    state = TaskSampler(tasks(5), seed=1).state_dict()
    for other in (
        TaskSampler(tasks(6), seed=1),
        TaskSampler(tasks(6)[1:], seed=1),
        TaskSampler(tasks(5), seed=2),
    ):
        with pytest.raises(ValueError, match=r"resume with the same data, train\.only and seed"):
            other.load_state_dict(state)


def test_no_task_is_an_error() -> None:
    with pytest.raises(ValueError, match="no task"):
        TaskSampler([], seed=0)
