"""A room with two desks, in which every command goes for one of them, whatever it says."""

from collections.abc import Sequence
from typing import Any

from envs import Task, TextEnv
from envs.text_env import NamedObject

ID = "tests.builders.desks:Desks"


class Desks(TextEnv):
    """Lists its desks. Training knows the room r0 only."""

    def tasks(self, split: str) -> list[Task]:
        rooms = ("r0", "r0") if split == "train" else ("r0", "r1", "r1")
        return [
            Task(env_id=ID, split=split, family="desk", id=f"{split}-{n}", scene=room)
            for n, room in enumerate(rooms)
        ]

    @classmethod
    def object_named(cls, command: str, texts: Sequence[str]) -> NamedObject | None:
        return NamedObject(name="desk 1", is_furniture=True, is_known=True, other_name="desk 3")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "You see a desk 1, and a desk 2.", {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "Nothing happens.", 0.0, False, False, {"success": False}
