"""Players that need no model: the environment's expert, and chance. They are baselines."""

import random
from copy import deepcopy
from typing import Any, Literal, Protocol, get_args

from envs import Task, TextEnv

PlayerName = Literal["expert", "random"]
PLAYERS: tuple[PlayerName, ...] = get_args(PlayerName)


def player_named(name: str | None) -> PlayerName | None:
    """Return the player of that name, or None; a folder called `expert` is written `./expert`."""
    return next((player for player in PLAYERS if player == name), None)


class Player(Protocol):
    """Chooses the commands of one episode."""

    def choose(self, observation: str, info: dict[str, Any]) -> str | None:
        """Return the next command, or None if the player knows none."""


def make_player(name: PlayerName, env: TextEnv, task: Task, seed: int) -> Player:
    """Return a player for one episode of `task`; `seed` is for the random player's draws."""
    return ExpertPlayer(task) if name == "expert" else RandomPlayer(env, seed)


class ExpertPlayer:
    """Plays the commands in `info["expert_command"]`."""

    def __init__(self, task: Task) -> None:
        """Play `task`, whose name error messages carry."""
        self._task = task
        self._advised = False

    def choose(self, observation: str, info: dict[str, Any]) -> str | None:
        """Return the expert's command; None if the expert has none later in the episode.

        Raises:
            ValueError: the episode begins without a command: the environment has no expert, or
                was made without it.
        """
        if not self._advised and info.get("expert_command") is None:
            raise ValueError(
                f"task {self._task.id!r}: environment {self._task.env_id!r} gives no "
                "expert_command; ask it for its expert (env.options, expert: true); if it has no "
                "expert, use random instead, or leave out the warm start"
            )
        self._advised = True
        return info.get("expert_command") or None


class RandomPlayer:
    """Draws an admissible command, each equally likely.

    If the environment lists none, it draws any text of the action space.
    """

    def __init__(self, env: TextEnv, seed: int) -> None:
        """Play in `env`; the same `seed` gives the same draws."""
        self._rng = random.Random(seed)
        self._env, self._seed = env, seed
        self._texts: Any = None

    def choose(self, observation: str, info: dict[str, Any]) -> str | None:
        """Return a random command."""
        commands = info.get("admissible_commands")
        if commands:
            return str(self._rng.choice(commands))
        if self._texts is None:
            # A copy: all environments of the class share the space, and its random state with it.
            self._texts = deepcopy(self._env.action_space)
            self._texts.seed(self._seed)
        return str(self._texts.sample())
