import pytest

from agent_rl.config import Config, ConfigError, TaskFilter
from agent_rl.tasks import evaluation_tasks, filter_tasks, pick_evenly, training_tasks
from envs import Task


def tasks(count: int, families: int = 1) -> list[Task]:
    return [
        Task(env_id="e", split="train", family=f"f{i % families}", id=f"t{i:02d}")
        for i in range(count)
    ]


def test_pick_evenly_takes_families_in_equal_shares_and_repeats_itself() -> None:
    uneven = [
        *tasks(12, families=3),
        *(Task(env_id="e", split="train", family="rare", id=f"r{i}") for i in range(1)),
    ]
    picked = pick_evenly(uneven, 7, seed=0)
    counts = {
        family: sum(t.family == family for t in picked) for family in ("f0", "f1", "f2", "rare")
    }
    assert counts == {"f0": 2, "f1": 2, "f2": 2, "rare": 1}
    assert picked == pick_evenly(list(reversed(uneven)), 7, seed=0)
    assert pick_evenly(uneven, 0, seed=0) == uneven


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
    assert filter_tasks(rooms, TaskFilter(), "train.only") == rooms
    only = TaskFilter(families=("pick",), scenes=("0",), difficulty=(3, 6))
    assert [task.id for task in filter_tasks(rooms, only, "train.only")] == ["pick4", "pick6"]
    with pytest.raises(
        ConfigError,
        match=r"train\.only\.families: 'heat' is no task's family; there are: look, pick",
    ):
        filter_tasks(rooms, TaskFilter(families=("heat",)), "train.only")
    with pytest.raises(ConfigError, match=r"none of 12 tasks is left.*from 1 to 6"):
        filter_tasks(rooms, TaskFilter(difficulty=(7, 9)), "train.only")


def test_runs_of_other_seeds_are_evaluated_on_the_same_tasks() -> None:
    def played(seed: int) -> list[Task]:
        config = Config.model_validate(
            {"run_folder": "r", "seed": seed, "evaluation": {"tasks": 5}}
        )
        return evaluation_tasks(config, lambda split: tasks(40), "valid_seen")

    assert len(played(0)) == 5
    assert played(0) == played(1) == played(2)


def test_training_plays_the_training_split_through_its_filter() -> None:
    config = Config.model_validate(
        {
            "run_folder": "r",
            "env": {"train_split": "small"},
            "train": {"only": {"families": ["f1"]}},
        }
    )
    splits = {"small": tasks(4, families=2)}
    assert [task.id for task in training_tasks(config, lambda split: splits[split])] == [
        "t01",
        "t03",
    ]
