"""Three of gymnasium's toy worlds in words: a frozen lake, a taxi, a game of blackjack."""

import random
import zlib
from functools import partial
from typing import Any, cast

import gymnasium

from envs.options import checked_int
from envs.task import Task
from envs.worlds.gymnasium_env import GymnasiumEnv
from envs.worlds.seeded_tasks import seeded_task, task_seeds
from envs.worlds.value_iteration import best_actions, steps_to_the_end

_HELD_OUT_DIVISOR = 5
"""A lake is held out if its checksum is divisible by this, so no lake is in both splits."""
_LARGEST_DRAW_COUNT = 1000
"""How many lakes are drawn for one seed until one belongs to its split."""
_SIDES = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
"""The change of row and column by command, in the order of gymnasium's actions."""

_STANDS = ("red", "green", "yellow", "blue")
"""The taxi stands, in gymnasium's order."""
_IN_TAXI = 4
"""Gymnasium's number for the place of a passenger in the taxi."""
_RIDES = {"train": 240, "valid": 60}
"""How many of gymnasium's 300 first states of the taxi belong to each split."""
_STICK_FROM = 17
"""The blackjack expert takes cards below this sum."""


class FrozenLake(GymnasiumEnv):
    """Walk over a frozen lake to the goal, past the holes; each task has a different lake."""

    def __init__(
        self,
        size: int = 4,
        frozen: float = 0.8,
        slippery: bool = False,
        train: int = 200,
        valid: int = 50,
        expert: bool = False,
    ) -> None:
        """Choose the lakes.

        Args:
            size: the number of rows, and of columns.
            frozen: the share of tiles that are not holes.
            slippery: whether two of three steps slip to the side.
            train: how many lakes to train on.
            valid: how many lakes to hold out.
            expert: put the best step into `info` as `expert_command`.

        Raises:
            ValueError: a number is out of range.
        """
        checked_int("env.options: size", size, 3, 20)
        if not isinstance(frozen, int | float) or not 0.5 <= frozen < 1:
            raise ValueError(
                f"env.options: frozen: {frozen!r} is not a share of at least 0.5 and below 1"
            )
        self._size, self._frozen, self._slippery, self._with_expert = size, frozen, slippery, expert
        self._lake: list[str] = []
        self._best: dict[int, int] = {}
        make = partial(gymnasium.make, "FrozenLake-v1", disable_env_checker=True)
        super().__init__("frozen-lake", make, commands=tuple(_SIDES), train=train, valid=valid)

    def tasks(self, split: str) -> list[Task]:
        """List the tasks of a split, a lake each.

        The difficulty is the length of the shortest way, or 0 (unknown) on slippery ice.
        """
        return [self._task(split, seed) for seed in task_seeds(self._counts, split)]

    def introduction(self) -> str:
        holes = []
        for number, tile in enumerate("".join(self._lake)):
            if tile == "H":
                row, column = divmod(number, self._size)
                holes.append(self._name(row, column))
        ice = ", and the ice is slippery" if self._slippery else ""
        goal = self._name(self._size - 1, self._size - 1)
        return (
            f"You are on a frozen lake of {self._size} rows and {self._size} columns{ice}.\n"
            f"There are holes at: {'; '.join(holes) or 'no place'}.\n"
            f"Your task is to: walk to {goal} without falling into a hole."
        )

    def describe(self, observation: Any) -> str:
        row, column = divmod(int(observation), self._size)
        here = f"You are at {self._name(row, column)}."
        tile = self._lake[row][column]
        if tile == "G":
            return f"{here} You have reached the goal."
        if tile == "H":
            return f"{here} You fall into the hole."
        views = [
            f"{side}: {self._tile_name(row + down, column + right)}"
            for side, (down, right) in _SIDES.items()
        ]
        return f"{here} You see {', '.join(views)}."

    def advice(self, observation: Any) -> str | None:
        return self._names[self._best[int(observation)]] if self._with_expert else None

    def _prepare(self, task: Task) -> None:
        # gymnasium fixes the lake when it makes the environment, so each task needs a new one.
        self._lake = self._draw(task.split, task.seed)
        self._inner = self._make(self._lake)
        if self._with_expert:
            self._best = best_actions(self._inner.unwrapped.P)  # type: ignore[attr-defined]

    def _task(self, split: str, seed: int) -> Task:
        difficulty = 0
        if not self._slippery:
            table = self._make(self._draw(split, seed)).unwrapped.P  # type: ignore[attr-defined]
            difficulty = steps_to_the_end(table, best_actions(table), 0)
        return seeded_task(
            self._id, split, seed, family=f"{self._size} x {self._size}", difficulty=difficulty
        )

    def _draw(self, split: str, seed: int) -> list[str]:
        """Draw the lake of a seed: the first of its random maps that belongs to the split."""
        from gymnasium.envs.toy_text.frozen_lake import generate_random_map

        for draw in range(_LARGEST_DRAW_COUNT):
            lake: list[str] = generate_random_map(
                self._size, self._frozen, seed=seed * _LARGEST_DRAW_COUNT + draw
            )
            is_held_out = zlib.crc32("/".join(lake).encode()) % _HELD_OUT_DIVISOR == 0
            if is_held_out == (split == "valid"):
                return lake
        raise ValueError(
            f"env.options: size: {self._size} has too few lakes for {split}; raise size or lower "
            "frozen"
        )

    def _make(self, lake: list[str]) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(
            "FrozenLake-v1", desc=lake, is_slippery=self._slippery, disable_env_checker=True
        )

    def _name(self, row: int, column: int) -> str:
        return f"row {row + 1}, column {column + 1}"

    def _tile_name(self, row: int, column: int) -> str:
        if not (0 <= row < self._size and 0 <= column < self._size):
            return "the shore"
        return {"H": "a hole", "G": "the goal"}.get(self._lake[row][column], "ice")


class Taxi(GymnasiumEnv):
    """Drive a taxi through a small town: pick a passenger up, drop them off.

    The reward is gymnasium's: -1 for each accepted command, and 20 for the ride.
    """

    def __init__(self, train: int = 240, valid: int = 60, expert: bool = False) -> None:
        """Choose the rides.

        Args:
            train: how many rides to train on, at most 240.
            valid: how many rides to hold out, at most 60.
            expert: put the best command into `info` as `expert_command`.

        Raises:
            ValueError: a number is out of range.
        """
        checked_int("env.options: train", train, 0, _RIDES["train"])
        checked_int("env.options: valid", valid, 0, _RIDES["valid"])
        make = partial(gymnasium.make, "Taxi-v4", disable_env_checker=True)
        commands = ("south", "north", "east", "west", "pick up", "drop off")
        super().__init__("taxi", make, commands=commands, train=train, valid=valid)
        self._with_expert = expert
        self._town = cast(Any, self._inner.unwrapped)
        first_states = self._town.initial_state_distrib.nonzero()[0]
        self._first_states = [int(state) for state in first_states]
        # A fixed shuffle: the first 240 are for `train`, the other 60 for `valid`.
        random.Random("taxi").shuffle(self._first_states)
        self._best = best_actions(self._town.P)

    def tasks(self, split: str) -> list[Task]:
        """List the tasks of a split, a ride each.

        The seed is gymnasium's number of the first state; the family is the goal.
        """
        count = len(task_seeds(self._counts, split))
        begin = 0 if split == "train" else _RIDES["train"]
        return [self._task(split, state) for state in self._first_states[begin : begin + count]]

    def introduction(self) -> str:
        stands = []
        for name, (row, column) in zip(_STANDS, self._town.locs, strict=True):
            stands.append(f"{name} at row {row + 1}, column {column + 1}")
        return (
            "You drive a taxi in a town of 5 rows and 5 columns, with walls between some places. "
            f"There are stands: {', '.join(stands)}.\n"
            "Your task is to: pick up the passenger and drop them off where they want to go."
        )

    def describe(self, observation: Any) -> str:
        row, column, passenger, goal = self._town.decode(int(observation))
        if passenger == goal:
            return "The passenger gets out and is happy."
        place = "is in the taxi" if passenger == _IN_TAXI else f"waits at {_STANDS[passenger]}"
        return (
            f"You are at row {row + 1}, column {column + 1}. "
            f"The passenger {place} and wants to go to {_STANDS[goal]}."
        )

    def advice(self, observation: Any) -> str | None:
        return self._names[self._best[int(observation)]] if self._with_expert else None

    def succeeded(self, total: Any) -> bool:
        """True: only a completed ride terminates the episode."""
        return True

    def _prepare(self, task: Task) -> None:
        if task.seed not in self._first_states:
            raise ValueError(
                f"task: {task.id!r} is not a ride: {task.seed} is not the number of a first state"
            )
        # gymnasium draws the first state: give the task's state the probability 1.
        self._town.initial_state_distrib = [
            float(state == task.seed) for state in range(len(self._town.P))
        ]

    def _task(self, split: str, state: int) -> Task:
        row, column, passenger, goal = self._town.decode(state)
        return Task(
            env_id=self._id,
            split=split,
            family=f"to {_STANDS[goal]}",
            id=f"{_STANDS[passenger]}-to-{_STANDS[goal]}-from-{row + 1}-{column + 1}",
            seed=state,
            difficulty=steps_to_the_end(self._town.P, self._best, state),
        )


class Blackjack(GymnasiumEnv):
    """Play one hand of blackjack against the dealer; a draw is not a success."""

    def __init__(self, train: int = 1000, valid: int = 200, expert: bool = False) -> None:
        """Choose the hands.

        Args:
            train: how many hands to train on.
            valid: how many hands to hold out.
            expert: put `expert_command` into `info`: take cards below 17. It wins about two hands
                of five.

        Raises:
            ValueError: a number is out of range.
        """
        make = partial(gymnasium.make, "Blackjack-v1", disable_env_checker=True)
        super().__init__("blackjack", make, commands=("stick", "hit"), train=train, valid=valid)
        self._with_expert = expert

    def introduction(self) -> str:
        return (
            "You play blackjack. Hit takes a card, stick takes no more; above 21 you lose.\n"
            "Your task is to: win against the dealer."
        )

    def describe(self, observation: Any) -> str:
        own_sum, dealer_card, usable_ace = (int(value) for value in observation)
        ace = ", with an ace that counts 11" if usable_ace else ""
        card = "an ace" if dealer_card == 1 else dealer_card
        return f"You hold {own_sum}{ace}. The dealer shows {card}."

    def conclusion(self, success: bool) -> str:
        if success:
            return "You win."
        return "You lose." if self._return < 0 else "It is a draw."

    def advice(self, observation: Any) -> str | None:
        if not self._with_expert:
            return None
        return "hit" if int(observation[0]) < _STICK_FROM else "stick"
