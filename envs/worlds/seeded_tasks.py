"""Tasks that consist of a seed, for environments that draw their episodes."""

from typing import Any

from envs.options import checked_int
from envs.task import Task

HELD_OUT = 1_000_000
"""The first seed of `valid`. The seeds of `train` are smaller."""

_FIRST_SEED = {"train": 0, "valid": HELD_OUT}


def check_counts(train: int, valid: int) -> dict[str, int]:
    """Check the options `train` and `valid`; returns the number of tasks of each split.

    Raises:
        ValueError: one of them is not a whole number from 0 to `HELD_OUT`.
    """
    return {
        "train": checked_int("env.options: train", train, 0, HELD_OUT),
        "valid": checked_int("env.options: valid", valid, 0, HELD_OUT),
    }


def task_seeds(counts: dict[str, int], split: str) -> range:
    """Return the seeds of a split. No two splits share a seed.

    Args:
        counts: the number of tasks of each split.
        split: one of them.

    Raises:
        ValueError: the split is unknown or has no task.
    """
    if split not in counts:
        raise ValueError(f"split: {split!r} is none of {', '.join(counts)}")
    if not counts[split]:
        raise ValueError(f"split: {split!r} has no task; raise env.options.{split}")
    return range(_FIRST_SEED[split], _FIRST_SEED[split] + counts[split])


def seeded_task(env_id: str, split: str, seed: int, **fields: Any) -> Task:
    """Make the task of a seed.

    Args:
        env_id: the environment.
        split: the split of the seed.
        seed: one of `task_seeds`.
        fields: the other fields of the task: its family, and scene or difficulty if it has one.
    """
    return Task(
        env_id=env_id,
        split=split,
        id=f"{split}-{seed - _FIRST_SEED[split]:05d}",
        seed=seed,
        **fields,
    )
