"""Guess a number with the help of "higher" and "lower": the smallest world, for first steps."""

import random
from typing import Any

import gymnasium

from envs.options import checked_int
from envs.task import Task
from envs.text_env import NOTHING_HAPPENS, TextEnv, reset_needed, task_in
from envs.worlds.seeded_tasks import check_counts, seeded_task, task_seeds

ENV_ID = "guess-the-number"
_LARGEST_OPTION = 1000


class GuessTheNumber(TextEnv):
    """Guess a number with the help of "higher" and "lower".

    The reward is 1 for the right guess and 0 otherwise. The last wrong guess ends the episode. A
    command that is no guess costs nothing.
    """

    def __init__(
        self,
        largest: int = 20,
        guesses: int = 6,
        train: int = 200,
        valid: int = 50,
        expert: bool = False,
    ) -> None:
        """Choose the game.

        Args:
            largest: the largest number; the smallest is 1.
            guesses: how many guesses there are; bisection needs at most log2(largest) + 1.
            train: how many tasks to train on.
            valid: how many tasks to hold out.
            expert: put the guess of a bisection into `info` as `expert_command`.

        Raises:
            ValueError: a number is out of range.
        """
        self._largest = checked_int("env.options: largest", largest, 2, _LARGEST_OPTION)
        self._guesses = checked_int("env.options: guesses", guesses, 1, _LARGEST_OPTION)
        self._with_expert = expert
        self._counts = check_counts(train, valid)
        self._over = True

    def tasks(self, split: str) -> list[Task]:
        """List the tasks of `train` or `valid`; the difficulty is the guesses of a bisection."""
        return [
            seeded_task(
                ENV_ID,
                split,
                seed,
                family=f"1 to {self._largest}",
                difficulty=_bisection_guesses(self._number_of(seed), self._largest),
            )
            for seed in task_seeds(self._counts, split)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Draw the number from `seed`, or from the seed of `options["task"]` if that is None."""
        gymnasium.Env.reset(self, seed=seed)
        task = task_in(options, ENV_ID)
        self._number = self._number_of(task.seed if seed is None else seed)
        self._low, self._high, self._left, self._over = 1, self._largest, self._guesses, False
        goal = (
            f"Your task is to: guess my number. It is between 1 and {self._largest}. "
            f"You have {self._guesses} guesses."
        )
        return goal, self._info(success=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Guess with `guess N`. Any other command is answered with "Nothing happens.".

        Raises:
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise reset_needed()
        if action not in self._commands():
            return NOTHING_HAPPENS, 0.0, False, False, self._info(success=False)
        guess = int(action.removeprefix("guess "))
        self._left -= 1
        right = guess == self._number
        self._over = right or not self._left
        if right:
            return "Right!", 1.0, True, False, self._info(success=True)
        if self._over:
            text = f"Wrong. My number is {self._number}."
        elif guess < self._number:
            self._low, text = max(self._low, guess + 1), "Higher."
        else:
            self._high, text = min(self._high, guess - 1), "Lower."
        return text, 0.0, self._over, False, self._info(success=False)

    def _number_of(self, seed: int) -> int:
        return random.Random(f"{ENV_ID}:{seed}").randint(1, self._largest)

    def _commands(self) -> list[str]:
        return [f"guess {number}" for number in range(1, self._largest + 1)]

    def _info(self, *, success: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"success": success, "admissible_commands": self._commands()}
        if self._with_expert and not self._over:
            info["expert_command"] = f"guess {(self._low + self._high) // 2}"
        return info


def _bisection_guesses(number: int, largest: int) -> int:
    """How many guesses a bisection needs, the right one included.

    For 4 of 1 to 7 it is one guess; for 6 it is two: 4, 6.
    """
    low, high, count = 1, largest, 1
    while True:
        middle = (low + high) // 2
        if middle == number:
            return count
        if middle < number:
            low = middle + 1
        else:
            high = middle - 1
        count += 1
