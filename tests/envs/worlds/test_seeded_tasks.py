"""Tasks that consist of a seed."""

import pytest

from envs.task import Task
from envs.worlds.seeded_tasks import HELD_OUT, check_counts, seeded_task, task_seeds


def test_no_seed_is_in_both_splits() -> None:
    counts = check_counts(train=HELD_OUT, valid=3)
    assert task_seeds(counts, "train") == range(1_000_000)
    assert task_seeds(counts, "valid") == range(1_000_000, 1_000_003)


def test_a_task_is_numbered_within_its_split() -> None:
    assert seeded_task("taxi", "valid", HELD_OUT + 7, family="rides", difficulty=4) == Task(
        env_id="taxi",
        split="valid",
        family="rides",
        id="valid-00007",
        seed=HELD_OUT + 7,
        difficulty=4,
    )
    assert seeded_task("taxi", "train", 7, family="rides").id == "train-00007"


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="split: 'test' is none of train, valid"):
        task_seeds({"train": 1, "valid": 0}, "test")


def test_a_split_without_tasks_is_named() -> None:
    with pytest.raises(ValueError, match=r"split: 'valid' has no task; raise env\.options\.valid"):
        task_seeds({"train": 1, "valid": 0}, "valid")


def test_counts_are_checked() -> None:
    with pytest.raises(ValueError, match="train: 1000001 is not a whole number from 0 to 1000000"):
        check_counts(train=HELD_OUT + 1, valid=0)
    with pytest.raises(ValueError, match="valid: '3' is not a whole number"):
        check_counts(train=1, valid="3")  # type: ignore[arg-type]
