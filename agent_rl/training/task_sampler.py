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

    The order depends only on the seed and the tasks. So the state is a number, and a resumed run
    deals exactly the tasks that an unbroken run would have dealt.
    """

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        if not tasks:
            raise ValueError("there is no task to sample from")
        self._tasks = sorted(tasks, key=lambda task: task.id)
        self._seed = seed
        self._orders: dict[int, list[Task]] = {}
        """The orders of the last two epochs that were asked for."""

    def task(self, number: int) -> Task:
        """The task with a number, from 0; after the last task of an epoch comes the next epoch."""
        epoch, position = divmod(number, len(self._tasks))
        if epoch not in self._orders:
            before = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders = {**before, epoch: self._order(epoch)}
        return self._orders[epoch][position]

    def state_dict(self, number: int) -> dict[str, Any]:
        """The state in JSON's types, for a checkpoint.

        Args:
            number: of the next task.
        """
        epoch, position = divmod(number, len(self._tasks))
        return {
            "epoch": epoch,
            "position": position,
            "tasks": self._digest(),
            "seed": self._seed,
        }

    def number_of(self, state: dict[str, Any]) -> int:
        """The number of the next task in a state.

        Raises:
            ValueError: it belongs to another seed or to other tasks, so the order would differ.
        """
        if (state["tasks"], state["seed"]) != (self._digest(), self._seed):
            raise ValueError(
                f"the checkpoint's task order is of {state['tasks']} with seed {state['seed']}, "
                f"this run's of {self._digest()} with seed {self._seed}: resume with the same "
                "data, train.only and seed"
            )
        return int(state["epoch"]) * len(self._tasks) + int(state["position"])

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
