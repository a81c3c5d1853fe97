"""Which tasks a rollout step plays: a seeded shuffle of the split, the families in turn, epoch by
epoch.
"""

import hashlib
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agent_rl.config import Config, ConfigError, TaskFilter
from envs import Task


class TaskSampler:
    """Deals the tasks of a split in a seeded order; every task once an epoch, the families evenly
    over all of it.

    So the success rates of two rollout steps differ by what was learned more than by which families
    came up.

    The order depends only on the seed and the tasks, so that `state_dict()` is small and a resumed
    run goes on with exactly the tasks that an unbroken one would have played.
    """

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        if not tasks:
            raise ValueError("there is no task to sample from")
        self._tasks = sorted(tasks, key=lambda task: task.id)
        self._seed = seed
        self._epoch = 0
        self._position = 0

    def next(self, count: int) -> list[Task]:
        """The next `count` tasks; goes on into the next epoch where one ends."""
        dealt: list[Task] = []
        while len(dealt) < count:
            order = self._order(self._epoch)
            part = order[self._position : self._position + count - len(dealt)]
            dealt += part
            self._position += len(part)
            if self._position == len(order):
                self._epoch, self._position = self._epoch + 1, 0
        return dealt

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "position": self._position,
            "tasks": self._digest(),
            "seed": self._seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: the state belongs to another seed or to other tasks: the order would break.
        """
        if (state["tasks"], state["seed"]) != (self._digest(), self._seed):
            raise ValueError(
                f"the checkpoint's task order is of {state['tasks']} with seed {state['seed']}, this run's of "
                f"{self._digest()} with seed {self._seed}: resume with the same data, train.only and seed"
            )
        self._epoch, self._position = state["epoch"], state["position"]

    def _digest(self) -> str:
        """Which tasks these are, in a few letters."""
        ids = "\n".join(task.id for task in self._tasks)
        return f"{len(self._tasks)} tasks ({hashlib.sha256(ids.encode()).hexdigest()[:8]})"

    def _order(self, epoch: int) -> list[Task]:
        """Shuffled; then the k-th of a family's n tasks stands at (k + 1/2) / n of the way."""
        shuffled = list(self._tasks)
        random.Random(f"{self._seed}/{epoch}").shuffle(shuffled)
        sizes, dealt = Counter(task.family for task in shuffled), Counter[str]()
        places = []
        for task in shuffled:
            places.append((dealt[task.family] + 0.5) / sizes[task.family])
            dealt[task.family] += 1
        return [
            task for _, task in sorted(zip(places, shuffled, strict=True), key=lambda pair: pair[0])
        ]


def training_tasks(config: Config, tasks_of: Callable[[str], list[Task]]) -> list[Task]:
    """The tasks that train, also in the warm start; `tasks_of` gives the tasks of a split."""
    return chosen(tasks_of(config.env.train_split), config.train.only, "train.only")


def evaluation_tasks(
    config: Config, tasks_of: Callable[[str], list[Task]], split: str
) -> list[Task]:
    """The tasks of `split` that an evaluation plays: the same ones for every seed, so that runs can
    be compared.
    """
    settings = config.evaluation
    return spread(chosen(tasks_of(split), settings.only, "evaluation.only"), settings.tasks, seed=0)


def chosen(tasks: Sequence[Task], only: TaskFilter, key: str) -> list[Task]:
    """The tasks that a filter lets through; `key` is the config's name for it.

    Raises:
        ConfigError: there are none, or a name in the filter is no task's.
    """
    for part, of in (("families", "family"), ("scenes", "scene")):
        there = sorted({str(getattr(task, of)) for task in tasks})
        unknown = [name for name in getattr(only, part) if name not in there]
        if unknown:
            raise ConfigError(
                f"{key}.{part}: {unknown[0]!r} is no task's {of}; there are: {', '.join(there)}"
            )
    least, most = only.difficulty or (0, sys.maxsize)
    found = [
        task
        for task in tasks
        if (not only.families or task.family in only.families)
        and (not only.scenes or task.scene in only.scenes)
        and least <= task.difficulty <= most
    ]
    if not found:
        difficulties = [task.difficulty for task in tasks]
        raise ConfigError(
            f"{key}: none of {len(tasks)} tasks is left; widen the filter (their difficulties go from "
            f"{min(difficulties)} to {max(difficulties)})"
        )
    return found


def spread(tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    """`count` tasks (0: all of them), the families in equal shares as far as they go, chosen by
    `seed`.
    """
    if count <= 0 or count >= len(tasks):
        return list(tasks)
    by_family: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda task: task.id):
        by_family.setdefault(task.family, []).append(task)
    for family, members in by_family.items():
        random.Random(f"{seed}/{family}").shuffle(members)
    chosen: list[Task] = []
    while len(chosen) < count:
        for family in sorted(by_family):
            if by_family[family] and len(chosen) < count:
                chosen.append(by_family[family].pop())
    return sorted(chosen, key=lambda task: task.id)
