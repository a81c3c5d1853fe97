"""Players that need no model: the environment's own expert, and chance. They are the baselines of a
policy.
"""

import random
from copy import deepcopy
from typing import Any, Literal, Protocol, get_args

from envs import Task, TextEnv

PlayerName = Literal["expert", "random"]
PLAYERS: tuple[PlayerName, ...] = get_args(PlayerName)


def player_named(name: str | None) -> PlayerName | None:
    """The player of that name; None where it is another's: a folder called `expert` is `./expert`."""
    return next((known for known in PLAYERS if known == name), None)


class Player(Protocol):
    """Whatever chooses the commands of one episode."""

    def choose(self, observation: str, info: dict[str, Any]) -> str | None:
        """The next command; None where the player knows none."""


def make_player(name: PlayerName, env: TextEnv, task: Task, seed: int) -> Player:
    """A player for one episode of `task`; chance is drawn from `seed`."""
    return ExpertPlayer(task) if name == "expert" else RandomPlayer(env, seed)


class ExpertPlayer:
    """Does what `info["expert_command"]` says."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._advised = False

    def choose(self, observation: str, info: dict[str, Any]) -> str | None:
        """The advice; None where there is none later on.

        Raises:
            ValueError: the episode begins without advice: the environment has no expert, or was not
            asked for it.
        """
        if not self._advised and info.get("expert_command") is None:
            raise ValueError(
                f"task {self._task.id!r}: environment {self._task.env_id!r} gives no expert_command; ask it for its "
                "expert (env.options, expert: true); where it has no expert, use random instead, or leave out the "
                "warm start"
            )
        self._advised = True
        return info.get("expert_command") or None


class RandomPlayer:
    """Takes one of the admissible commands, each as likely; where none are listed, any text of the
    action space.
    """

    def __init__(self, env: TextEnv, seed: int) -> None:
        self._rng = random.Random(seed)
        self._env, self._seed = env, seed
        self._texts: Any = None

    def choose(self, observation: str, info: dict[str, Any]) -> str | None:
        commands = info.get("admissible_commands")
        if commands:
            return str(self._rng.choice(commands))
        if self._texts is None:
            # A copy: the space belongs to all environments of the class, and so does its state.
            self._texts = deepcopy(self._env.action_space)
            self._texts.seed(self._seed)
        return str(self._texts.sample())
