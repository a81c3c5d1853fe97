"""Deals the tasks of the rollout steps: shuffled by a seed, the families in turn, by epochs."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from envs import Task


class TaskSampler:
    """Deals the tasks of a split in a seeded order, every task once per epoch.

    The families are spread evenly over an epoch. Success of two rollout steps then differs by what
    was learned, and less by which families came up.

    The order depends only on the seed and the tasks. So the state is small, and a resumed run deals
    exactly the tasks that an unbroken run would have dealt.
    """

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        if not tasks:
            raise ValueError("there is no task to sample from")
        self._tasks = sorted(tasks, key=lambda task: task.id)
        self._seed = seed
        self._epoch = 0
        self._position = 0

    def next(self, count: int) -> list[Task]:
        """The next `count` tasks; after the last task of an epoch comes the next epoch."""
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
        """The state in JSON's types, for a checkpoint."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "tasks": self._digest(),
            "seed": self._seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Raises:
            ValueError: it belongs to another seed or to other tasks, so the order would differ.
        """
        if (state["tasks"], state["seed"]) != (self._digest(), self._seed):
            raise ValueError(
                f"the checkpoint's task order is of {state['tasks']} with seed {state['seed']}, "
                f"this run's of {self._digest()} with seed {self._seed}: resume with the same "
                "data, train.only and seed"
            )
        self._epoch, self._position = state["epoch"], state["position"]

    def _digest(self) -> str:
        """A short text that differs for other tasks, such as `480 tasks (1f3a9c2e)`."""
        ids = "\n".join(task.id for task in self._tasks)
        return f"{len(self._tasks)} tasks ({hashlib.sha256(ids.encode()).hexdigest()[:8]})"

    def _order(self, epoch: int) -> list[Task]:
        """The tasks of an epoch in their order.

        The k-th (from 0) of a family's n tasks stands at (k + 1/2) / n of the way. For example two
        tasks stand at 1/4 and 3/4, between which a family of four has its second and third.
        """
        shuffled = list(self._tasks)
        random.Random(f"{self._seed}/{epoch}").shuffle(shuffled)
        sizes = Counter(task.family for task in shuffled)
        seen = Counter[str]()
        places = []
        for task in shuffled:
            places.append((seen[task.family] + 0.5) / sizes[task.family])
            seen[task.family] += 1
        # Sorted by the place alone: sorting is stable, so the shuffle decides between equal places.
        pairs = sorted(zip(places, shuffled, strict=True), key=lambda pair: pair[0])
        return [task for _, task in pairs]
