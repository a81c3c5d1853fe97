import pytest

from agent_rl.config import Config, ConfigError, TaskFilter
from agent_rl.training.task_sampler import TaskSampler, chosen, evaluation_tasks, spread
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


def test_spread_takes_families_in_equal_shares_and_repeats_itself() -> None:
    uneven = [
        *tasks(12, families=3),
        *(Task(env_id="e", split="train", family="rare", id=f"r{i}") for i in range(1)),
    ]
    chosen = spread(uneven, 7, seed=0)
    counts = {
        family: sum(t.family == family for t in chosen) for family in ("f0", "f1", "f2", "rare")
    }
    assert counts == {"f0": 2, "f1": 2, "f2": 2, "rare": 1}
    assert chosen == spread(list(reversed(uneven)), 7, seed=0)
    assert spread(uneven, 0, seed=0) == uneven


def test_filters_choose_by_family_scene_and_difficulty() -> None:
    rooms = [
        Task(
            env_id="e",
            split="train",
            family=family,
            id=f"{family}{n}",
            scene=str(n % 2),
            difficulty=n,
        )
        for family in ("pick", "look")
        for n in range(1, 7)
    ]
    assert chosen(rooms, TaskFilter(), "train.only") == rooms
    only = TaskFilter(families=("pick",), scenes=("0",), difficulty=(3, 6))
    assert [task.id for task in chosen(rooms, only, "train.only")] == ["pick4", "pick6"]
    with pytest.raises(
        ConfigError,
        match=r"train\.only\.families: 'heat' is no task's family; there are: look, pick",
    ):
        chosen(rooms, TaskFilter(families=("heat",)), "train.only")
    with pytest.raises(ConfigError, match=r"none of 12 tasks is left.*from 1 to 6"):
        chosen(rooms, TaskFilter(difficulty=(7, 9)), "train.only")


def test_runs_of_other_seeds_are_evaluated_on_the_same_tasks() -> None:
    def played(seed: int) -> list[Task]:
        config = Config.model_validate(
            {"run_folder": "r", "seed": seed, "evaluation": {"tasks": 5}}
        )
        return evaluation_tasks(config, lambda split: tasks(40), "valid_seen")

    assert len(played(0)) == 5
    assert played(0) == played(1) == played(2)
