"""Tasks that are nothing but a seed, for environments that draw their episodes."""

from typing import Any

from envs.options import checked_int
from envs.task import Task

HELD_OUT = 1_000_000
"""The first seed of `valid`; those of `train` end before it."""

_FIRST_SEED = {"train": 0, "valid": HELD_OUT}


def check_counts(train: int, valid: int) -> dict[str, int]:
    """How many tasks each split has, checked.

    Raises:
        ValueError: one of the two is no whole number, or out of range.
    """
    return {
        "train": checked_int("env.options: train", train, 0, HELD_OUT),
        "valid": checked_int("env.options: valid", valid, 0, HELD_OUT),
    }


def task_seeds(counts: dict[str, int], split: str) -> range:
    """The seeds of a split; no two splits share one.

    Raises:
        ValueError: the split is not known or has no task.
    """
    if split not in counts:
        raise ValueError(f"split: {split!r} is none of {', '.join(counts)}")
    if not counts[split]:
        raise ValueError(f"split: {split!r} has no task; raise env.options.{split}")
    return range(_FIRST_SEED[split], _FIRST_SEED[split] + counts[split])


def seeded_task(env_id: str, split: str, seed: int, **known: Any) -> Task:
    """The task that is this seed; `known` holds the family, and scene or difficulty where there is
    one.
    """
    return Task(
        env_id=env_id,
        split=split,
        id=f"{split}-{seed - _FIRST_SEED[split]:05d}",
        seed=seed,
        **known,
    )
