"""A config's environment and its tasks: for training, for evaluation, by a filter, evenly."""

import random
import sys
from collections.abc import Callable, Sequence

from agent_rl.config import Config, ConfigError, TaskFilter
from envs import Task, TextEnv
from envs.own_thread import TimeLimit, open_env

TasksOf = Callable[[str], list[Task]]
"""Gives the tasks of a split, as `TextEnv.tasks` does."""


def open_environment(config: Config, *, expert: bool = False) -> TextEnv:
    """Make the config's environment in this process, with `episode.env_timeout_seconds` per call.

    Raises:
        ValueError: `env` is wrong, or the constructor raises or does not return. Later, every call
            may raise that it does not return.
    """
    options = {**config.env.options, "expert": True} if expert else config.env.options
    seconds = config.episode.env_timeout_seconds
    limit = TimeLimit(seconds=seconds, setting="episode.env_timeout_seconds")
    return open_env(config.env.id, options, limit)


def training_tasks(config: Config, tasks_of: TasksOf) -> list[Task]:
    """Return the tasks that reinforcement learning and the warm start train on.

    Raises:
        ConfigError: `train.only` leaves no task, or names what no task has.
    """
    return filter_tasks(tasks_of(config.env.train_split), config.train.only, "train.only")


def evaluation_tasks(config: Config, tasks_of: TasksOf, split: str) -> list[Task]:
    """Return the tasks of `split` that an evaluation plays.

    They do not depend on the run's seed, so runs of different seeds play the same games.

    Raises:
        ConfigError: `evaluation.only` leaves no task, or names what no task has.
    """
    settings = config.evaluation
    tasks = filter_tasks(tasks_of(split), settings.only, "evaluation.only")
    return pick_evenly(tasks, settings.tasks, seed=0)


def filter_tasks(tasks: Sequence[Task], only: TaskFilter, key: str) -> list[Task]:
    """Return the tasks that a filter lets through, in their order.

    Args:
        tasks: the tasks to choose from; at least one.
        only: the filter.
        key: the filter's key in the config, for messages.

    Raises:
        ConfigError: no task is left, or a name in the filter is no task's.
    """
    _refuse_unknown(only.families, [task.family for task in tasks], f"{key}.families", "family")
    _refuse_unknown(only.scenes, [str(task.scene) for task in tasks], f"{key}.scenes", "scene")
    kept = [task for task in tasks if _passes(task, only)]
    if not kept:
        difficulties = [task.difficulty for task in tasks]
        raise ConfigError(
            f"{key}: none of {len(tasks)} tasks is left; widen the filter (their difficulties go "
            f"from {min(difficulties)} to {max(difficulties)})"
        )
    return kept


def pick_evenly(tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    """Return `count` tasks, in equal shares of the families as far as those go.

    Families take turns, each with its next task in an order drawn from `seed`. A family that has
    no more tasks is skipped.

    Args:
        tasks: the tasks to pick from.
        count: how many; 0, or more than there are, means all of them.
        seed: decides which tasks of each family are picked.
    """
    if count <= 0 or count >= len(tasks):
        return list(tasks)
    by_family: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: task.id):
        by_family.setdefault(task.family, []).append(task)
    for family, members in by_family.items():
        # A generator for each family: new tasks of one family do not change the others' picks.
        random.Random(f"{seed}/{family}").shuffle(members)
    picked: list[Task] = []
    while len(picked) < count:
        for family in sorted(by_family):
            if by_family[family] and len(picked) < count:
                picked.append(by_family[family].pop())
    return sorted(picked, key=lambda task: task.id)


def repeat_evenly(tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    """Return `count` tasks; no task occurs more than once more often than another.

    Args:
        tasks: the tasks to pick from.
        count: how many; 0 means every task once.
        seed: decides which tasks of each family are picked (`pick_evenly`).
    """
    if count <= len(tasks):
        return pick_evenly(tasks, count, seed)
    rounds, rest = divmod(count, len(tasks))
    # pick_evenly reads 0 as "all of them".
    return [*tasks] * rounds + (pick_evenly(tasks, rest, seed) if rest else [])


def _refuse_unknown(
    names: Sequence[str], existing: Sequence[str], key: str, attribute: str
) -> None:
    for name in names:
        if name not in existing:
            raise ConfigError(
                f"{key}: {name!r} is no task's {attribute}; there are: "
                f"{', '.join(sorted(set(existing)))}"
            )


def _passes(task: Task, only: TaskFilter) -> bool:
    least, most = only.difficulty or (0, sys.maxsize)
    return (
        (not only.families or task.family in only.families)
        and (not only.scenes or task.scene in only.scenes)
        and least <= task.difficulty <= most
    )
