"""Any environment, made to answer late, as one behind a network or a simulator does."""

import random
import time
from collections.abc import Mapping
from typing import Any

from envs.registry import make_env
from envs.task import Task
from envs.text_env import EnvWrapper


class LateWorld(EnvWrapper):
    """An environment whose answers come late, and for a few tasks much later.

    It shows what a slow environment costs, and what `train.look_ahead` and more workers gain. Each
    task has its own delay, the same in every run: `seconds` times a number of a Pareto
    distribution, whose median is 2 ** (1 / tail). With a tail of 1.5, one task in 32 waits more
    than ten times `seconds`.
    """

    def __init__(
        self,
        env: str = "alfworld",
        options: Mapping[str, Any] | None = None,
        seconds: float = 0.02,
        tail: float = 1.5,
        most: float = 2.0,
        expert: bool = False,
    ) -> None:
        """Make the environment that plays.

        Args:
            env: its id, as `env.id`.
            options: its options, as `env.options`.
            seconds: the shortest delay of an answer.
            tail: the exponent of the distribution; a smaller one makes the slow tasks slower.
            most: the longest delay of an answer, in seconds.
            expert: let the environment give its expert's commands.

        Raises:
            ValueError: an option is wrong.
        """
        if not 0 <= seconds <= most:
            raise ValueError(
                f"env.options: seconds {seconds} must be from 0 to most, which is {most}"
            )
        if tail <= 0:
            raise ValueError(f"env.options: tail {tail} must be above 0")
        inner = dict(options or {})
        super().__init__(make_env(env, **inner, **({"expert": True} if expert else {})))
        self._seconds, self._tail, self._most = seconds, tail, most
        self._delay = 0.0

    def delay(self, task: Task) -> float:
        """Seconds before each answer of a task's episodes."""
        drawn = random.Random(f"{task.split}/{task.id}").paretovariate(self._tail)
        return min(self._seconds * drawn, self._most)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        first = super().reset(seed=seed, options=options)
        task = (options or {}).get("task")
        self._delay = self.delay(task) if isinstance(task, Task) else self._seconds
        return first

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        time.sleep(self._delay)
        return super().step(action)
