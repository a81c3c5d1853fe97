"""Each fault in an environment's behaviour is reported in its own sentence."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from envs import TextEnv
from envs.conformance.report import examine_env
from tests.builders.faulty_environments import (
    ARRAY,
    AlwaysOn,
    BothEndings,
    BrokenClone,
    Chatty,
    ClosesOnce,
    Dice,
    Forgets,
    GlobalDice,
    GoesOn,
    NoClone,
    SharedClone,
    SharedState,
    SilentSuccess,
    Spoiled,
    Stairs,
    Strict,
    assert_refused,
    failures_of,
)

FAULTY: list[tuple[Callable[[], TextEnv], str, str]] = [
    (
        AlwaysOn,
        "before the first reset",
        "as if an episode were under way; raise gymnasium.error.ResetNeeded",
    ),
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
    (SharedState, "two at once", "keep all state in self, and chance in a generator in self"),
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
        "step after the end answered as if the episode were not over; raise "
        "gymnasium.error.ResetNeeded",
    ),
    (SharedClone, "clone", "a clone and its original disturb each other"),
    (
        NoClone,
        "clone",
        "clone returned None; return a second environment, or raise NotImplementedError",
    ),
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


@pytest.mark.parametrize(
    ("make", "name", "sentence"),
    FAULTY,
    ids=[f"{index}-{row[1].replace(' ', '_')}" for index, row in enumerate(FAULTY)],
)
def test_each_fault_has_its_sentence(
    make: Callable[[], TextEnv], name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(make, name, sentence)
    assert capsys.readouterr().out == ""


def test_a_flag_that_is_no_bool_ends_the_game_and_not_the_check() -> None:
    assert "endings" not in failures_of(lambda: Spoiled("terminated", ARRAY))


def test_checks_that_need_a_copy_say_so_if_there_is_none() -> None:
    env = Stairs()
    env.lock = threading.Lock()  # type: ignore[attr-defined]
    report = examine_env(env)
    remarks = {check.name: check.sentence for check in report.checks}
    for name in ("before the first reset", "two at once", "closing"):
        assert remarks[name].startswith(
            "not looked at: the environment cannot be copied; give the class"
        )
    assert [check.name for check in report.failures] == ["clone"]


def test_a_game_that_never_ends_is_not_judged_by_its_end() -> None:
    class Endless(Stairs):
        def info(self) -> dict[str, Any]:
            return {"success": self.over, "admissible_commands": ["rest"]}

    remarks = {check.name: check.sentence for check in examine_env(Endless, steps=2).checks}
    assert remarks["endings"] == "not looked at: no game ended within 40 commands"
