"""A good environment passes; each way to be bad is said in its own sentence."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from envs import TextEnv, check_env, make_env, step_fault
from envs.conformance.calls import Moment
from envs.conformance.checks import look_at_advice
from envs.conformance.examination import Examination
from envs.conformance.report import Outcome, examine_env
from tests.builders.faulty_environments import (
    ARRAY,
    AlwaysOn,
    ArrayReset,
    ArrayTasks,
    BadSpace,
    BothEndings,
    BrokenClone,
    Chatty,
    ClosesOnce,
    Dice,
    Forgets,
    GlobalDice,
    GoesOn,
    Hinted,
    NoClone,
    NoSplits,
    NoTask,
    NoTaskAtAll,
    OneSplit,
    OtherTasks,
    ResetRaises,
    ResetText,
    SharedClone,
    SharedState,
    SilentSuccess,
    Sleepy,
    Speechless,
    Spoiled,
    Stairs,
    StepFour,
    StepInt,
    StepRaises,
    Strict,
    Touchy,
    WonAtOnce,
    WordsRaise,
    WrongTasks,
    WrongWords,
)

BAD: list[tuple[Callable[[], TextEnv], str, str]] = [
    (
        NoTask,
        "tasks",
        "tasks('train') raised ValueError: the folder is empty; the first of splits must have",
    ),
    (
        NoTaskAtAll,
        "tasks",
        "split 'train' has no task; let tasks(split) return some for the first of splits",
    ),
    (
        NoTaskAtAll,
        "tasks",
        "tasks('no such split') returned 0 tasks; raise ValueError for a split that is not known",
    ),
    (WrongTasks, "tasks", "tasks('train') does not return a list of envs.Task; return one"),
    (
        OtherTasks,
        "tasks",
        "returned others at the second call; draw them from a seed that stays the same",
    ),
    (OtherTasks, "tasks", "tasks('train') has two tasks with one id; give each an id of its own"),
    (
        OtherTasks,
        "tasks",
        "tasks('valid') has a task of another split; set Task.split to the split",
    ),
    (
        NoSplits,
        "tasks",
        "splits is (); make it a tuple of different names, such as ('train', 'valid')",
    ),
    (
        WrongWords,
        "tasks",
        "words() does not return a list of texts; return one, or leave the method out",
    ),
    (
        WordsRaise,
        "tasks",
        "words() raised RuntimeError: no words; return a list of texts, or leave the method out",
    ),
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
    (
        AlwaysOn,
        "before the first reset",
        "as if an episode were under way; raise gymnasium.error.ResetNeeded",
    ),
    (
        Speechless,
        "reset",
        "reset returned the observation ''; return a text that says what there is to do",
    ),
    (
        WonAtOnce,
        "reset",
        "reset says success: True; an episode cannot be won before the first command",
    ),
    (
        ResetText,
        "reset",
        "reset of task 'train-0' returned a str; a TextEnv returns a tuple of two: observation, info (it was",
    ),
    (
        ResetRaises,
        "reset",
        "reset of task 'train-0' raised OSError: no stairs; in training, such an episode counts as",
    ),
    (
        StepInt,
        "reset",
        "returned an int; a TextEnv returns a tuple of five: observation, reward, terminated, truncated,",
    ),
    (
        StepFour,
        "reset",
        "returned a tuple of 4; a TextEnv returns a tuple of five: observation, reward, terminated,",
    ),
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
    (
        lambda: Spoiled("observation", "a\ud800"),
        "types",
        "a text that cannot be written as UTF-8: it holds '\\ud800'",
    ),
    (
        lambda: Spoiled("reward", "1"),
        "types",
        "returned a str as reward; a TextEnv returns a finite number (it was '1')",
    ),
    (
        lambda: Spoiled("reward", float("nan")),
        "types",
        "returned nan as reward; a TextEnv returns a finite number",
    ),
    (
        lambda: Spoiled("terminated", 1),
        "types",
        "returned an int as terminated; a TextEnv returns a bool: bool(...) of it",
    ),
    (
        lambda: Spoiled("terminated", ARRAY),
        "types",
        "returned a ndarray as terminated; a TextEnv returns a bool",
    ),
    (
        lambda: Spoiled("truncated", None),
        "types",
        "returned None as truncated; a TextEnv returns a bool",
    ),
    (
        lambda: Spoiled("success", "no"),
        "types",
        "returned a str as info['success']; a TextEnv says there whether",
    ),
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
    (
        lambda: Spoiled("admissible_commands", ["climb\u2026"]),
        "commands",
        "which is not in action_space; widen that",
    ),
    (
        lambda: Spoiled("expert_command", "fly"),
        "commands",
        "expert_command 'fly', which it does not list as",
    ),
    (Touchy, "reset", "step('xyzzy the frotz') raised KeyError: 'xyzzy the frotz'"),
    (
        Strict,
        "commands that mean nothing",
        "ended the episode though it is not admissible; let the episode go on",
    ),
    (
        Dice,
        "same seed, same game",
        "the same seed and commands gave another game the second time: step('",
    ),
    (Forgets, "same seed, same game", "let reset set everything back"),
    (GlobalDice, "two at once", "two environments played in turn disturb each other: step("),
    (SharedState, "two at once", "keep all state in self, and chance in a generator of one's own"),
    (
        SilentSuccess,
        "endings",
        "says success without terminated; return terminated=True when the task is done",
    ),
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
    (
        NoClone,
        "clone",
        "clone returned None; return a second environment, or raise NotImplementedError",
    ),
    (BadSpace, "texts", "looking at it raised RuntimeError: no space ("),
    (BadSpace, "texts", "faulty_environments.py:"),
    (BrokenClone, "clone", "clone raised TypeError: cannot pickle; raise NotImplementedError"),
    (
        ClosesOnce,
        "closing",
        "close raised RuntimeError the second time: closed already; closing twice must do no harm",
    ),
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
    ("make", "name", "sentence"),
    BAD,
    ids=[f"{index}-{bad[1].replace(' ', '_')}" for index, bad in enumerate(BAD)],
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


def test_an_experts_command_may_be_refused_in_up_to_a_tenth_of_turns() -> None:
    def faults(refused: int) -> list[str]:
        advice = ["fly"] * refused + ["climb"] * (20 - refused)
        moments = [
            Moment(
                command="climb",
                observation="o",
                info={"admissible_commands": ["climb"], "expert_command": one},
            )
            for one in advice
        ]
        wrong: list[str] = []
        look_at_advice(cast(Examination, SimpleNamespace(moments=lambda: moments)), wrong)
        return wrong

    assert faults(2) == []
    assert [
        "so it is with 3 of 20 commands of the expert" in sentence for sentence in faults(3)
    ] == [True]


def test_alfworld_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))
    games = {
        "train": 2,
        "valid_seen": 1,
        "valid_unseen": 0,
        "receptacles": [3, 3],
        "objects": [3, 3],
        "copies": 1,
    }
    check_env(lambda: make_env("alfworld", games=games, expert=True), tasks=2, steps=10)


class Numpys(Stairs):
    """Returns other types than TextEnv tells, all of them harmless."""

    def step(self, action: str) -> Any:
        text, reward, terminated, truncated, info = super().step(action)
        told = {
            "success": np.bool_(info["success"]),
            "admissible_commands": ("climb", "rest"),
            "expert_command": None,
        }
        return (
            text,
            np.float32(reward),
            np.bool_(terminated),
            np.bool_(truncated),
            MappingProxyType(told),
        )


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
    failed = {
        check.name: check.sentence for check in examine_env(lambda: Spoiled(key, value)).failures
    }
    assert fault == "" or any(fault in sentence for sentence in failed.values())
    assert bool(fault) == bool({"reset", "types"} & set(failed)), failed


def test_an_odd_value_costs_no_other_check() -> None:
    for key in ("observation", "reward"):
        assert [check.name for check in examine_env(partial(Spoiled, key, ARRAY)).failures] == [
            "types"
        ]
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
    assert notes["two at once"].startswith(
        "not looked at: the environment cannot be copied; give the class"
    )
    assert [check.name for check in report.failures] == ["clone"]
