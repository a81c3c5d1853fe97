"""Three of gymnasium's small worlds in words: a frozen lake, a taxi, a game of blackjack."""

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

_ONE_IN = 5
"""A lake is held out if its checksum is divisible by this, so that no lake is in both splits."""
_DRAWS = 1000
_SIDES = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}

_PLACES = ("red", "green", "yellow", "blue")
_IN_TAXI = 4
_RIDES = {"train": 240, "valid": 60}
"""How gymnasium's 300 first states of the taxi are shared out."""


class FrozenLake(GymnasiumEnv):
    """Walk over a frozen lake to the goal, past the holes; every task has a lake of its own."""

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
            size: rows, and columns.
            frozen: the share of tiles that are no holes.
            slippery: two steps of three go to the side.
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
        """A lake per task; the difficulty is the length of the shortest way, not known where it is
        slippery.
        """
        return [self._task(split, seed) for seed in task_seeds(self._counts, split)]

    def introduction(self) -> str:
        places = enumerate("".join(self._lake))
        holes = [self._name(*divmod(place, self._size)) for place, tile in places if tile == "H"]
        return (
            f"You are on a frozen lake of {self._size} rows and {self._size} columns"
            f"{', and the ice is slippery' if self._slippery else ''}.\n"
            f"There are holes at: {'; '.join(holes) or 'no place'}.\n"
            f"Your task is to: walk to {self._name(self._size - 1, self._size - 1)} without falling into a hole."
        )

    def describe(self, observation: Any) -> str:
        row, column = divmod(int(observation), self._size)
        here = f"You are at {self._name(row, column)}."
        tile = self._lake[row][column]
        if tile in "GH":
            return here + (
                " You have reached the goal." if tile == "G" else " You fall into the hole."
            )
        seen = [
            f"{side}: {self._seen(row + down, column + right)}"
            for side, (down, right) in _SIDES.items()
        ]
        return f"{here} You see {', '.join(seen)}."

    def advice(self, observation: Any) -> str | None:
        return self._names[self._best[int(observation)]] if self._with_expert else None

    def _prepare(self, task: Task) -> None:
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
        from gymnasium.envs.toy_text.frozen_lake import generate_random_map

        for draw in range(_DRAWS):
            lake: list[str] = generate_random_map(
                self._size, self._frozen, seed=seed * _DRAWS + draw
            )
            if (zlib.crc32("/".join(lake).encode()) % _ONE_IN == 0) == (split == "valid"):
                return lake
        raise ValueError(
            f"env.options: size: {self._size} has too few lakes for {split}; raise size or lower frozen"
        )

    def _make(self, lake: list[str]) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(
            "FrozenLake-v1", desc=lake, is_slippery=self._slippery, disable_env_checker=True
        )

    def _name(self, row: int, column: int) -> str:
        return f"row {row + 1}, column {column + 1}"

    def _seen(self, row: int, column: int) -> str:
        if not (0 <= row < self._size and 0 <= column < self._size):
            return "the shore"
        return {"H": "a hole", "G": "the goal"}.get(self._lake[row][column], "ice")


class Taxi(GymnasiumEnv):
    """Drive a taxi through a small town: pick a passenger up, drop them off.

    The reward is gymnasium's: -1 for each command that is taken, and 20 for the ride.
    """

    def __init__(self, train: int = 240, valid: int = 60, expert: bool = False) -> None:
        """Choose how many rides to train on and to hold out; `expert` puts the best
        `expert_command` into `info`.

        Raises:
            ValueError: there are not that many rides.
        """
        for key, value in (("train", train), ("valid", valid)):
            if isinstance(value, int) and value > _RIDES[key]:
                raise ValueError(
                    f"env.options: {key}: {value} is more than the {_RIDES[key]} rides that there are"
                )
        make = partial(gymnasium.make, "Taxi-v4", disable_env_checker=True)
        commands = ("south", "north", "east", "west", "pick up", "drop off")
        super().__init__("taxi", make, commands=commands, train=train, valid=valid)
        self._with_expert = expert
        self._town = cast(Any, self._inner.unwrapped)
        self._firsts = [int(state) for state in self._town.initial_state_distrib.nonzero()[0]]
        random.Random("taxi").shuffle(self._firsts)
        self._best = best_actions(self._town.P)

    def tasks(self, split: str) -> list[Task]:
        """A ride per task; its seed is gymnasium's number of the first state, its family where the
        ride goes.
        """
        count = len(task_seeds(self._counts, split))
        begin = 0 if split == "train" else _RIDES["train"]
        return [self._task(split, state) for state in self._firsts[begin : begin + count]]

    def introduction(self) -> str:
        stands = zip(_PLACES, self._town.locs, strict=True)
        return (
            "You drive a taxi in a town of 5 rows and 5 columns, with walls between some places. There are stands: "
            f"{', '.join(f'{name} at row {row + 1}, column {column + 1}' for name, (row, column) in stands)}.\n"
            "Your task is to: pick up the passenger and drop them off where they want to go."
        )

    def describe(self, observation: Any) -> str:
        row, column, passenger, goal = self._town.decode(int(observation))
        if passenger == goal:
            return "The passenger gets out and is happy."
        place = "is in the taxi" if passenger == _IN_TAXI else f"waits at {_PLACES[passenger]}"
        return f"You are at row {row + 1}, column {column + 1}. The passenger {place} and wants to go to {_PLACES[goal]}."

    def advice(self, observation: Any) -> str | None:
        return self._names[self._best[int(observation)]] if self._with_expert else None

    def succeeded(self, total: Any) -> bool:
        """Nothing but a ride that is done ends the episode."""
        return True

    def _prepare(self, task: Task) -> None:
        if task.seed not in self._firsts:
            raise ValueError(
                f"task: {task.id!r} is no ride: {task.seed} is not the number of a first state"
            )
        self._town.initial_state_distrib = [
            float(state == task.seed) for state in range(len(self._town.P))
        ]

    def _task(self, split: str, state: int) -> Task:
        row, column, passenger, goal = self._town.decode(state)
        return Task(
            env_id=self._id,
            split=split,
            family=f"to {_PLACES[goal]}",
            id=f"{_PLACES[passenger]}-to-{_PLACES[goal]}-from-{row + 1}-{column + 1}",
            seed=state,
            difficulty=steps_to_the_end(self._town.P, self._best, state),
        )


class Blackjack(GymnasiumEnv):
    """Play one hand of blackjack against the dealer; a draw is no success."""

    def __init__(self, train: int = 1000, valid: int = 200, expert: bool = False) -> None:
        """Choose how many hands to train on and to hold out.

        `expert` puts `expert_command` into `info`: to take cards below 17, which wins some two
        hands of five.

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
        held, dealers, ace = (int(value) for value in observation)
        return (
            f"You hold {held}{', with an ace that counts 11' if ace else ''}. "
            f"The dealer shows {'an ace' if dealers == 1 else dealers}."
        )

    def conclusion(self, success: bool) -> str:
        if success:
            return "You win."
        return "You lose." if self._return < 0 else "It is a draw."

    def advice(self, observation: Any) -> str | None:
        if not self._with_expert:
            return None
        return "hit" if int(observation[0]) < 17 else "stick"
