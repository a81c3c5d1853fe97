"""Environments that a package registers with gymnasium when it is imported: a text world, a plain
one, a TextEnv.
"""

from typing import Any

import gymnasium
import numpy
from gymnasium.spaces import Box, Text

from envs import Task, TextEnv

WORDS = ("red", "green", "blue")


class Echo(gymnasium.Env[str, str]):
    """Say the word that is asked for; texts on both sides. It lists its commands, and says itself
    what a success is.
    """

    observation_space = Text(64)
    action_space = Text(16)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.word = WORDS[int(self.np_random.integers(len(WORDS)))]
        return f"Your task is to: say {self.word}.", {"admissible_commands": list(WORDS)}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action not in WORDS:
            return "What?", 0.0, False, False, {"admissible_commands": list(WORDS)}
        return (
            "Done.",
            -1.0,
            True,
            False,
            {"admissible_commands": list(WORDS), "success": action == self.word},
        )


class NumpyEcho(Echo):
    """Says what a success is in numpy's words."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        *told, info = super().step(action)
        if "success" in info:
            info["success"] = numpy.bool_(info["success"])
        return *told, info  # type: ignore[return-value]


class Knob(gymnasium.Env[Any, Any]):
    """Its action is a number from a range, which is no text."""

    observation_space = Box(0.0, 1.0)
    action_space = Box(0.0, 1.0)


class Lamp(TextEnv):
    """A TextEnv that is registered with gymnasium."""

    def __init__(self, color: str = "white", watts: int = 1) -> None:
        self.color, self.watts = color, watts

    def tasks(self, split: str) -> list[Task]:
        return []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "It is dark.", {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "It is light.", 1.0, True, False, {"success": True}


class Half(TextEnv):
    """Not finished: it has no step."""

    def tasks(self, split: str) -> list[Task]:
        return []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "", {}


gymnasium.register("Echo-v0", entry_point=f"{__name__}:Echo")
gymnasium.register("Knob-v0", entry_point=f"{__name__}:Knob")
gymnasium.register("Lamp-v0", entry_point=f"{__name__}:Lamp", kwargs={"color": "yellow"})
