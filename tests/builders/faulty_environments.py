"""Environments that break the contract in one way each; `Stairs` keeps it."""

import random
import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from envs import Task, TextEnv, check_env
from envs.conformance.report import examine_env

ARRAY: Any = np.arange(3)
Result = tuple[str, float, bool, bool, dict[str, Any]]


class Stairs(TextEnv):
    """Climb three to five stairs. It keeps the contract; the others break it in one place."""

    def __init__(self) -> None:
        self.left, self.over = 0, True

    def tasks(self, split: str) -> list[Task]:
        if split not in self.splits:
            raise ValueError(f"split: {split!r} is not known")
        return [
            Task(env_id="stairs", split=split, family="stairs", id=f"{split}-{n}", seed=n)
            for n in range(4)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super(TextEnv, self).reset(seed=seed)
        self.left, self.over = 3 + int(self.np_random.integers(3)), False
        return f"Your task is to: climb {self.left} stairs.", self.info()

    def step(self, action: str) -> Result:
        if self.over:
            raise ResetNeeded("call reset first")
        if action == "climb":
            self.left -= 1
        self.over = self.left == 0
        return f"{self.left} to go.", float(self.over), self.over, False, self.info()

    def info(self) -> dict[str, Any]:
        return {
            "success": self.over,
            "admissible_commands": ["climb", "rest"],
            "expert_command": "climb",
        }


class Hinted(Stairs):
    """Lists no commands, has words, and cannot be copied, which is all allowed."""

    def words(self) -> list[str]:
        return ["stairs"]

    def info(self) -> dict[str, Any]:
        return {"success": self.over}

    def clone(self) -> Self:
        raise NotImplementedError("no")


class NoTask(Stairs):
    def tasks(self, split: str) -> list[Task]:
        raise ValueError("the folder is empty")


class NoTaskAtAll(Stairs):
    def tasks(self, split: str) -> list[Task]:
        return []


class WrongTasks(Stairs):
    def tasks(self, split: str) -> list[Task]:
        return ["go up"]  # type: ignore[list-item]


class OtherTasks(Stairs):
    def tasks(self, split: str) -> list[Task]:
        seed = random.randrange(10**9)
        return [
            Task(env_id="stairs", split="train", family="stairs", id="same", seed=seed + n)
            for n in range(2)
        ]


class NoSplits(Stairs):
    splits = ()


class WrongWords(Stairs):
    def words(self) -> list[str]:
        return "stairs"  # type: ignore[return-value]


class WordsRaise(Stairs):
    def words(self) -> list[str]:
        raise RuntimeError("no words")


class OneSplit(Stairs):
    def tasks(self, split: str) -> list[Task]:
        return (
            {"train": super().tasks("train")}[split]
            if split in self.splits
            else super().tasks(split)
        )


class ArrayTasks(Stairs):
    def tasks(self, split: str) -> list[Task]:
        return super().tasks(split) if split in self.splits else ARRAY


class ArrayReset(Stairs):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return ARRAY, super().reset(seed=seed)[1]


class BadSpace(Stairs):
    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no space")


class AlwaysOn(Stairs):
    def step(self, action: str) -> Result:
        return "Fine.", 0.0, False, False, self.info()


class Speechless(Stairs):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "", super().reset(seed=seed)[1]


class WonAtOnce(Stairs):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        text, info = super().reset(seed=seed)
        return text, {**info, "success": True}


class ResetText(Stairs):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return super().reset(seed=seed)[0]  # type: ignore[return-value]


class ResetRaises(Stairs):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        raise OSError("no stairs")


class StepInt(Stairs):
    def step(self, action: str) -> Result:
        super().step(action)
        return 3  # type: ignore[return-value]


class StepFour(Stairs):
    def step(self, action: str) -> Result:
        return super().step(action)[:4]  # type: ignore[return-value]


class StepRaises(Stairs):
    def step(self, action: str) -> Result:
        super().step(action)
        raise SystemExit(3)


class Spoiled(Stairs):
    """Replaces one value that `step` returns, or one in `info`."""

    def __init__(self, key: str, value: Any) -> None:
        super().__init__()
        self.key, self.value = key, value

    def step(self, action: str) -> Result:
        keys = ("observation", "reward", "terminated", "truncated", "info")
        values: dict[str, Any] = dict(zip(keys, super().step(action), strict=True))
        if self.key in values:
            values[self.key] = self.value
        else:
            values["info"][self.key] = self.value
        return tuple(values.values())


class Touchy(Stairs):
    def step(self, action: str) -> Result:
        if not self.over and action not in ("climb", "rest"):
            raise KeyError(action)
        return super().step(action)


class Strict(Stairs):
    def step(self, action: str) -> Result:
        text, reward, over, _, info = super().step(action)
        if action not in ("climb", "rest", "look"):
            self.over = True
            return text, reward, True, False, {**info, "success": False}
        return text, reward, over, False, info


class Dice(Stairs):
    """Draws without a seed."""

    def step(self, action: str) -> Result:
        text, *rest = super().step(action)
        return f"{text} {random.random()}", *rest  # type: ignore[return-value]


class GlobalDice(Stairs):
    """Seeds the global generator and draws from it, which works until there are two."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        random.seed(seed)
        return super().reset(seed=seed)

    def step(self, action: str) -> Result:
        text, *rest = super().step(action)
        return f"{text} {random.random()}", *rest  # type: ignore[return-value]


class SharedState(Stairs):
    """Keeps the number of climbed stairs in the class."""

    climbed: list[int] = []  # noqa: RUF012

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self.climbed.clear()
        return super().reset(seed=seed)

    def step(self, action: str) -> Result:
        text, *rest = super().step(action)
        self.climbed.append(1)
        return f"{text} {len(self.climbed)} so far.", *rest  # type: ignore[return-value]


class Forgets(Stairs):
    """Keeps a counter that a reset does not set back."""

    seen = 0

    def step(self, action: str) -> Result:
        text, *rest = super().step(action)
        self.seen += 1
        return f"{text} Seen {self.seen}.", *rest  # type: ignore[return-value]


class SilentSuccess(Stairs):
    def step(self, action: str) -> Result:
        text, reward, over, _, info = super().step(action)
        return text, reward, False, over, info


class BothEndings(Stairs):
    def step(self, action: str) -> Result:
        text, reward, over, _, info = super().step(action)
        return text, reward, over, over, info


class GoesOn(Stairs):
    def step(self, action: str) -> Result:
        if self.over and self.left == 0 and hasattr(self, "_np_random_seed"):
            return "Again?", 0.0, False, False, {**self.info(), "success": False}
        return super().step(action)


class SharedClone(Stairs):
    def clone(self) -> Self:
        return self


class NoClone(Stairs):
    def clone(self) -> Self:
        return None  # type: ignore[return-value]


class BrokenClone(Stairs):
    def clone(self) -> Self:
        raise TypeError("cannot pickle")


class ClosesOnce(Stairs):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class Chatty(Stairs):
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        print("welcome to the stairs")
        return super().reset(seed=seed)


class Sleepy(Stairs):
    """Waits forever."""

    def step(self, action: str) -> Result:
        if not self.over:
            threading.Event().wait()
        return super().step(action)


def failures_of(make: Callable[[], TextEnv]) -> dict[str, str]:
    """The sentences of the conformance check, by the names of the checks that fail."""
    return {check.name: check.sentence for check in examine_env(make).failures}


def assert_refused(make: Callable[[], TextEnv], name: str, sentence: str) -> None:
    """Assert that one check says a sentence, in the report and in the error of `check_env`."""
    failures = failures_of(make)
    assert name in failures, failures
    assert sentence in failures[name]
    with pytest.raises(AssertionError, match="does not keep the contract") as refused:
        check_env(make())
    assert sentence in str(refused.value)
