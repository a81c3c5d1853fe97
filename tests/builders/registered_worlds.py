"""Environments that are registered with gymnasium when this module is imported."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy
from gymnasium.spaces import Box, Text

from envs import Task, TextEnv

WORDS = ("red", "green", "blue")


class Echo(gymnasium.Env[str, str]):
    """Say the right word. Observations and actions are texts; `info` has commands and success."""

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
    """Its success is a bool of numpy."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        *values, info = super().step(action)
        if "success" in info:
            info["success"] = numpy.bool_(info["success"])
        return *values, info  # type: ignore[return-value]


class Knob(gymnasium.Env[Any, Any]):
    """Its action is a number from a range, which cannot be a command."""

    observation_space = Box(0.0, 1.0)
    action_space = Box(0.0, 1.0)


class Lamp(TextEnv):
    """A TextEnv that is registered with gymnasium, with a default option."""

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
    """An abstract TextEnv: it lacks `step`."""

    def tasks(self, split: str) -> list[Task]:
        return []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "", {}


def make_lamp(path: str) -> Lamp:
    """A function that makes an environment, and says so in a file: it is no class."""
    Path(path).touch()
    return Lamp()


class Note:
    """A class that is no environment, and writes a file when it is made."""

    def __init__(self, path: str) -> None:
        Path(path).touch()


gymnasium.register("Echo-v0", entry_point=f"{__name__}:Echo")
gymnasium.register("Knob-v0", entry_point=f"{__name__}:Knob")
gymnasium.register("Lamp-v0", entry_point=f"{__name__}:Lamp", kwargs={"color": "yellow"})
