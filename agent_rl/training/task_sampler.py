"""Which tasks a rollout step plays: a seeded shuffle of the split, the families in turn, epoch by
epoch.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

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
