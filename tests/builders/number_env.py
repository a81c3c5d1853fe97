"""A small text environment: guess a number with the help of "Higher." and "Lower."."""

import ctypes
import os
import time
from typing import Any

from envs import Task, TextEnv

LARGEST = 9
Result = tuple[str, float, bool, bool, dict[str, Any]]
"""What a step returns."""


class NumberEnv(TextEnv):
    """The number of task `number-N` is N, and the guesses are `guess 0` to `guess 9`.

    `think` is admissible and does nothing; `look` is not admissible. These commands fail in the
    way that a test needs, and are not admissible either:

    - `crash` raises, `die` ends the process, `count` answers with a number instead of a text;
    - `hang` sleeps, and `hold` sleeps with the interpreter's lock held;
    - `give up` terminates the episode, `interrupt` truncates it, and `chat` prints.

    Task `broken` is refused, task `crash` raises in reset, and task `hang` sleeps there.
    """

    splits = ("train",)

    def __init__(
        self,
        *,
        expert: bool = False,
        list_commands: bool = True,
        advice: dict[str, str] | None = None,
    ) -> None:
        """Make the environment.

        Args:
            expert: whether `info` has the expert's command.
            list_commands: whether `info` lists the admissible commands.
            advice: by number, the expert's command instead of the right one.
        """
        self._expert = expert
        self._list_commands = list_commands
        self._advice = advice or {}
        self._number = 0
        self._low, self._high = 0, LARGEST

    def tasks(self, split: str) -> list[Task]:
        if split != "train":
            raise ValueError(f"split: {split!r} is not known; there is only train")
        return [
            Task(
                env_id="tests.builders.number_env:NumberEnv",
                split=split,
                family="even" if n % 2 == 0 else "odd",
                id=f"number-{n}",
            )
            for n in range(LARGEST + 1)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        assert options is not None
        task: Task = options["task"]
        if task.id == "broken":
            raise ValueError("the file of task broken is cut in half")
        if task.id == "crash":
            raise OSError("no such world")
        if task.id == "hang":
            time.sleep(100)
        self._number = int(task.id.removeprefix("number-"))
        self._low, self._high = 0, LARGEST
        return "Guess my number.", self._info(success=False)

    def step(self, action: str) -> Result:
        if action == "crash":
            raise RuntimeError("the world broke")
        if action == "die":
            os._exit(1)
        if action == "chat":
            print("chat " * 1000)
        if action == "hang":
            time.sleep(100)
        if action == "hold":
            ctypes.PyDLL(None).sleep(100)
        if action == "count":
            return 5, 0.0, False, False, self._info(success=False)  # type: ignore[return-value]
        if action == "give up":
            return "A pity.", 0.0, True, False, self._info(success=False)
        if action == "interrupt":
            return "The bell rings.", 0.0, False, True, self._info(success=False)
        if action not in self._guesses():
            return "Nothing happens.", 0.0, False, False, self._info(success=False)
        guess = int(action.removeprefix("guess "))
        if guess == self._number:
            return "Right!", 1.0, True, False, self._info(success=True)
        if guess < self._number:
            self._low = max(self._low, guess + 1)
            return "Higher.", 0.0, False, False, self._info(success=False)
        self._high = min(self._high, guess - 1)
        return "Lower.", 0.0, False, False, self._info(success=False)

    def _guesses(self) -> list[str]:
        return [f"guess {n}" for n in range(LARGEST + 1)]

    def _info(self, *, success: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"success": success}
        if self._list_commands:
            info["admissible_commands"] = [*self._guesses(), "think"]
        if self._expert:
            right = f"guess {(self._low + self._high) // 2}"
            info["expert_command"] = self._advice.get(str(self._number), right)
        return info
