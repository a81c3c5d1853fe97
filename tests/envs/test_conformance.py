"""A good environment passes; each way to be bad is said in its own sentence."""

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from envs import Task, TextEnv, check_env, make_env, step_fault
from envs.conformance import Outcome, examine_env

ARRAY: Any = np.arange(3)
Result = tuple[str, float, bool, bool, dict[str, Any]]


class Stairs(TextEnv):
    """Climb three to five stairs; the good one, which the others spoil in one place."""

    def __init__(self) -> None:
        self.left, self.over = 0, True

    def tasks(self, split: str) -> list[Task]:
        if split not in self.splits:
            raise ValueError(f"split: {split!r} is not known")
        return [Task(env_id="stairs", split=split, family="stairs", id=f"{split}-{n}", seed=n) for n in range(4)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
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
        return {"success": self.over, "admissible_commands": ["climb", "rest"], "expert_command": "climb"}


class Hinted(Stairs):
    """Has no list of commands, words of its own, and cannot be copied."""

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
        return [Task(env_id="stairs", split="train", family="stairs", id="same", seed=seed + n) for n in range(2)]


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
        return {"train": super().tasks("train")}[split] if split in self.splits else super().tasks(split)


class ArrayTasks(Stairs):
    def tasks(self, split: str) -> list[Task]:
        return super().tasks(split) if split in self.splits else ARRAY


class ArrayReset(Stairs):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return ARRAY, super().reset(seed=seed)[1]


class BadSpace(Stairs):
    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no space")


class AlwaysOn(Stairs):
    def step(self, action: str) -> Result:
        return "Fine.", 0.0, False, False, self.info()


class Speechless(Stairs):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return "", super().reset(seed=seed)[1]


class WonAtOnce(Stairs):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        text, info = super().reset(seed=seed)
        return text, {**info, "success": True}


class ResetText(Stairs):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return super().reset(seed=seed)[0]  # type: ignore[return-value]


class ResetRaises(Stairs):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
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
    """Spoils one value of what `step` returns, or of `info`."""

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
    """Seeds the global generator and draws from it, which goes well until there are two."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        random.seed(seed)
        return super().reset(seed=seed)

    def step(self, action: str) -> Result:
        text, *rest = super().step(action)
        return f"{text} {random.random()}", *rest  # type: ignore[return-value]


class SharedState(Stairs):
    """Keeps what was climbed in the class."""

    climbed: list[int] = []  # noqa: RUF012

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.climbed.clear()
        return super().reset(seed=seed)

    def step(self, action: str) -> Result:
        text, *rest = super().step(action)
        self.climbed.append(1)
        return f"{text} {len(self.climbed)} so far.", *rest  # type: ignore[return-value]


class Forgets(Stairs):
    """Does not set everything back."""

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
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        print("welcome to the stairs")
        return super().reset(seed=seed)


class Sleepy(Stairs):
    """Waits for what never comes."""

    def step(self, action: str) -> Result:
        if not self.over:
            threading.Event().wait()
        return super().step(action)


BAD: list[tuple[Callable[[], TextEnv], str, str]] = [
    (NoTask, "tasks", "tasks('train') raised ValueError: the folder is empty; the first of splits must have"),
    (NoTaskAtAll, "tasks", "split 'train' has no task; let tasks(split) return some for the first of splits"),
    (NoTaskAtAll, "tasks", "tasks('no such split') returned 0 tasks; raise ValueError for a split that is not known"),
    (WrongTasks, "tasks", "tasks('train') does not return a list of envs.Task; return one"),
    (OtherTasks, "tasks", "returned others at the second call; draw them from a seed that stays the same"),
    (OtherTasks, "tasks", "tasks('train') has two tasks with one id; give each an id of its own"),
    (OtherTasks, "tasks", "tasks('valid') has a task of another split; set Task.split to the split"),
    (NoSplits, "tasks", "splits is (); make it a tuple of different names, such as ('train', 'valid')"),
    (WrongWords, "tasks", "words() does not return a list of texts; return one, or leave the method out"),
    (WordsRaise, "tasks", "words() raised RuntimeError: no words; return a list of texts, or leave the method out"),
    (
        OneSplit,
        "tasks",
        "tasks('valid') raised KeyError: 'valid'; return the tasks of each of splits, or raise ValueError",
    ),
    (ArrayTasks, "tasks", "tasks('no such split') returned array([0, 1, 2]); raise ValueError"),
    (
        ArrayReset,
        "reset",
        "reset returned the observation array([0, 1, 2]); return a text that says what there is to do",
    ),
    (AlwaysOn, "before the first reset", "as if an episode were under way; raise gymnasium.error.ResetNeeded"),
    (Speechless, "reset", "reset returned the observation ''; return a text that says what there is to do"),
    (WonAtOnce, "reset", "reset says success: True; an episode cannot be won before the first command"),
    (
        ResetText,
        "reset",
        "reset of task 'train-0' returned a str; a TextEnv returns a tuple of two: observation, info (it was",
    ),
    (ResetRaises, "reset", "reset of task 'train-0' raised OSError: no stairs; in training, such an episode counts as"),
    (
        StepInt,
        "reset",
        "returned an int; a TextEnv returns a tuple of five: observation, reward, terminated, truncated,",
    ),
    (StepFour, "reset", "returned a tuple of 4; a TextEnv returns a tuple of five: observation, reward, terminated,"),
    (StepRaises, "reset", "raised SystemExit: 3; in training, such an episode counts as an error"),
    (
        lambda: Spoiled("observation", 3),
        "types",
        "returned an int as observation; a TextEnv returns text: str (it was 3)",
    ),
    (
        lambda: Spoiled("observation", ARRAY),
        "types",
        "returned a ndarray as observation; a TextEnv returns text: str (it",
    ),
    (lambda: Spoiled("observation", "a\ud800"), "types", "a text that cannot be written as UTF-8: it holds '\\ud800'"),
    (
        lambda: Spoiled("reward", "1"),
        "types",
        "returned a str as reward; a TextEnv returns a finite number (it was '1')",
    ),
    (lambda: Spoiled("reward", float("nan")), "types", "returned nan as reward; a TextEnv returns a finite number"),
    (
        lambda: Spoiled("terminated", 1),
        "types",
        "returned an int as terminated; a TextEnv returns a bool: bool(...) of it",
    ),
    (lambda: Spoiled("terminated", ARRAY), "types", "returned a ndarray as terminated; a TextEnv returns a bool"),
    (lambda: Spoiled("truncated", None), "types", "returned None as truncated; a TextEnv returns a bool"),
    (lambda: Spoiled("success", "no"), "types", "returned a str as info['success']; a TextEnv says there whether"),
    (lambda: Spoiled("success", ARRAY), "types", "returned a ndarray as info['success']"),
    (
        lambda: Spoiled("admissible_commands", ["a", "a"]),
        "types",
        "returned the admissible_commands ['a', 'a']; return a list of different texts that are not empty",
    ),
    (
        lambda: Spoiled("admissible_commands", "climb"),
        "types",
        "what is no list of str; a TextEnv lists str, or has no",
    ),
    (
        lambda: Spoiled("expert_command", 3),
        "types",
        "returned an int as info['expert_command']; a TextEnv returns text",
    ),
    (
        lambda: Spoiled("observation", "na\u00efve"),
        "texts",
        "it has ['\u00ef'], which the space does not; replace",
    ),
    (
        lambda: Spoiled("observation", "a" * 9000),
        "texts",
        "it has 9000 characters and the space allows 8192; shorten",
    ),
    (lambda: Spoiled("admissible_commands", ["climb\u2026"]), "commands", "which is not in action_space; widen that"),
    (
        lambda: Spoiled("expert_command", "fly"),
        "commands",
        "expert_command 'fly', which it does not list as",
    ),
    (Touchy, "reset", "step('xyzzy the frotz') raised KeyError: 'xyzzy the frotz'"),
    (Strict, "commands that mean nothing", "ended the episode though it is not admissible; let the episode go on"),
    (Dice, "same seed, same game", "the same seed and commands gave another game the second time: step('"),
    (Forgets, "same seed, same game", "let reset set everything back"),
    (GlobalDice, "two at once", "two environments played in turn disturb each other: step("),
    (SharedState, "two at once", "keep all state in self, and chance in a generator of one's own"),
    (SilentSuccess, "endings", "says success without terminated; return terminated=True when the task is done"),
    (
        BothEndings,
        "endings",
        "says terminated and truncated at once; truncated is only for an episode that is",
    ),
    (
        GoesOn,
        "endings",
        "step after the end went on as if the episode were not over; raise gymnasium.error.ResetNeeded",
    ),
    (SharedClone, "clone", "a clone and its original disturb each other"),
    (NoClone, "clone", "clone returned None; return a second environment, or raise NotImplementedError"),
    (BadSpace, "texts", "looking at it raised RuntimeError: no space ("),
    (BadSpace, "texts", "test_conformance.py:"),
    (BrokenClone, "clone", "clone raised TypeError: cannot pickle; raise NotImplementedError"),
    (ClosesOnce, "closing", "close raised RuntimeError the second time: closed already; closing twice must do no harm"),
    (
        Chatty,
        "prints nothing",
        "reset of task 'train-0' printed 'welcome to the stairs'; print nothing, or use logging",
    ),
]


@pytest.mark.parametrize("env", [Stairs, Stairs(), Hinted])
def test_a_good_environment(env: TextEnv | Callable[[], TextEnv]) -> None:
    report = check_env(env)
    assert all(check.outcome is Outcome.PASSED for check in report.checks), report


@pytest.mark.parametrize(
    ("make", "name", "sentence"), BAD, ids=[f"{index}-{bad[1].replace(' ', '_')}" for index, bad in enumerate(BAD)]
)
def test_each_way_to_be_bad_has_its_sentence(
    make: Callable[[], TextEnv], name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = {check.name: check.sentence for check in examine_env(make).failures}
    assert name in failures, failures
    assert sentence in failures[name]
    assert capsys.readouterr().out == ""
    with pytest.raises(AssertionError, match="does not keep the contract") as refused:
        check_env(make())
    assert sentence in str(refused.value)


def test_alfworld_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))
    games = {"train": 2, "valid_seen": 1, "valid_unseen": 0, "receptacles": [3, 3], "objects": [3, 3], "copies": 1}
    check_env(lambda: make_env("alfworld", games=games, expert=True), tasks=2, steps=10)


class Numpys(Stairs):
    """Returns other types than TextEnv tells, all of them harmless."""

    def step(self, action: str) -> Any:
        text, reward, terminated, truncated, info = super().step(action)
        told = {"success": np.bool_(info["success"]), "admissible_commands": ("climb", "rest"), "expert_command": None}
        return text, np.float32(reward), np.bool_(terminated), np.bool_(truncated), MappingProxyType(told)


def test_what_does_no_harm_is_taken() -> None:
    report = check_env(Numpys)
    notes = {check.name: check.sentence for check in report.checks}
    assert notes["endings"] == "games that ended: success, success, success"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reward", True),
        ("reward", np.True_),
        pytest.param("reward", 10**400, id="reward-huge"),
        ("reward", np.float64("inf")),
        ("truncated", 0),
        ("success", np.False_),
        ("success", 0),
        ("admissible_commands", None),
        ("admissible_commands", ARRAY),
        ("admissible_commands", ["climb", "\udc80"]),
        ("expert_command", ""),
        ("expert_command", "\udc80"),
        ("info", None),
        ("info", {}),
    ],
)
def test_what_passes_trains_and_what_does_not_train_does_not_pass(key: str, value: Any) -> None:
    env = Spoiled(key, value)
    env.reset(seed=0)
    fault = step_fault(env.step("rest"))
    failed = {check.name: check.sentence for check in examine_env(lambda: Spoiled(key, value)).failures}
    assert fault == "" or any(fault in sentence for sentence in failed.values())
    assert bool(fault) == bool({"reset", "types"} & set(failed)), failed


def test_an_odd_value_costs_no_other_check() -> None:
    for key in ("observation", "reward"):
        assert [check.name for check in examine_env(partial(Spoiled, key, ARRAY)).failures] == ["types"]
    assert [check.name for check in examine_env(OneSplit).failures] == ["tasks"]
    assert [check.name for check in examine_env(WordsRaise).failures] == ["tasks"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_environment_that_cannot_be_made_is_a_sentence(error: type[BaseException]) -> None:
    def make() -> TextEnv:
        raise error("no stairs")

    [failure] = examine_env(make).failures
    assert failure.sentence == f"making the environment raised {error.__name__}: no stairs."


def test_one_mistake_is_said_once() -> None:
    report = examine_env(StepInt)
    assert [check.name for check in report.failures] == ["reset"]
    assert {check.outcome for check in report.checks[3:11]} == {Outcome.NOT_RUN}


def test_a_call_that_hangs_becomes_a_sentence() -> None:
    begin = time.monotonic()
    report = examine_env(Sleepy, seconds=0.3)
    assert time.monotonic() - begin < 3
    [failure] = report.failures
    assert failure.sentence.startswith("step('")
    assert "had not come back after 0.3 seconds, and was at " in failure.sentence
    assert failure.sentence.endswith("make sure that every wait in it has an end.")
    assert report.checks[-1].outcome is Outcome.NOT_RUN


def test_what_is_no_text_env() -> None:
    [failure] = examine_env(dict).failures  # type: ignore[arg-type]
    assert failure.sentence == "the environment is a dict; make it a subclass of envs.TextEnv."


def test_an_environment_that_cannot_be_copied_is_told_what_was_not_looked_at() -> None:
    env = Stairs()
    env.lock = threading.Lock()  # type: ignore[attr-defined]
    report = examine_env(env)
    notes = {check.name: check.sentence for check in report.checks}
    assert notes["two at once"].startswith("not looked at: the environment cannot be copied; give the class")
    assert [check.name for check in report.failures] == ["clone"]
