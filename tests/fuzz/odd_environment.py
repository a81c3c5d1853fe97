"""An environment whose every answer may be odd: wrong types, errors of all classes, odd texts."""

import json
import random
from typing import Any

from envs import Task, TextEnv

ERRORS: tuple[BaseException, ...] = (
    ValueError("math domain error"),
    KeyError("goal"),
    OSError("no such file"),
    json.JSONDecodeError("bad file", "{", 1),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    RecursionError("too deep"),
    MemoryError(),
    SystemExit(3),
    AssertionError(),
    StopIteration(),
    TimeoutError("mine"),
    NotImplementedError(),
)
ODD: tuple[Any, ...] = (None, 1, "text", (), (1, 2, 3), {"a": 1}, b"bytes", [], float("nan"))
_INFO = {"success": False, "admissible_commands": ["go", "wait"]}


class OddEnv(TextEnv):
    """A world of one room that answers one time in four with something odd."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.odd_answers: list[str] = []

    @staticmethod
    def healthy_tasks() -> list[Task]:
        return [
            Task(env_id="odd", split="train", id=f"train-{n}", family="room", seed=n)
            for n in range(3)
        ]

    def tasks(self, split: str) -> list[Task]:
        return self.healthy_tasks()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._maybe_odd("reset", ["You are in a room.", dict(_INFO)])

    def step(self, action: str) -> Any:
        return self._maybe_odd("step", ["Here.", 0.0, False, False, dict(_INFO)])

    def _maybe_odd(self, call: str, answer: list[Any]) -> Any:
        kind = self.rng.randrange(12)
        if kind == 0:
            error = self.rng.choice(ERRORS)
            self.odd_answers.append(f"{call} raised {error!r}")
            raise error
        if kind == 1:
            odd = self.rng.choice(ODD)
            self.odd_answers.append(f"{call} returned {odd!r}")
            return odd
        if kind == 2:
            place = self.rng.randrange(len(answer))
            odd = self.rng.choice(ODD)
            # A text is an observation, a number is a reward, and NaN is neither.
            is_right = (place == 0 and isinstance(odd, str)) or (
                place == 1 and len(answer) == 5 and isinstance(odd, int)
            )
            if not is_right:
                self.odd_answers.append(f"{call} answer {place} is {odd!r}")
                answer[place] = odd
        return tuple(answer)
