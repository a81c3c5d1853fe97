"""A person's own environment, which is found by the name of its module."""

from typing import Any

from envs import Task, TextEnv


class Door(TextEnv):
    """A door that is opened by one command; it has no tasks."""

    def __init__(self, *, locked: bool = False) -> None:
        self.locked = locked

    def tasks(self, split: str) -> list[Task]:
        return []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "You face a door.", {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "You are through.", 1.0, True, False, {"success": True}


class Jammed(Door):
    """An environment that cannot be made."""

    def __init__(self, *, expert: bool = False) -> None:
        raise RuntimeError("it is jammed")
