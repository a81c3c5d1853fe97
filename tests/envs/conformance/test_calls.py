"""Calls that return, raise, print or hang, and the moments that they give."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from envs.conformance.calls import (
    Caller,
    CheckStopped,
    Hang,
    Moment,
    Subject,
    moment_of,
    short_repr,
    truthy,
)
from tests.builders.faulty_environments import ResetText, Stairs, StepRaises


@pytest.fixture
def caller() -> Iterator[Caller]:
    caller = Caller(seconds=10)
    yield caller
    caller.close()


def moment(**values: Any) -> Moment:
    return Moment(**{"command": "go", "observation": "a room", "info": {}} | values)


def test_a_call_returns_or_raises(caller: Caller) -> None:
    assert caller.call("one", lambda: 1) == 1
    with pytest.raises(ZeroDivisionError):
        caller.call("division", lambda: 1 / 0)
    assert caller.call("two", lambda: 2) == 2, "an error does not end the thread"


def test_the_first_call_that_prints_is_kept(caller: Caller) -> None:
    for text in ("hello", "again"):
        caller.call("greeting", lambda text=text: print(text))  # type: ignore[misc]
    caller.call("silence", lambda: None)
    assert caller.printed == {"greeting": "hello\n"}


def test_a_call_that_does_not_return_is_a_hang(caller: Caller) -> None:
    forever = threading.Event()
    with pytest.raises(Hang, match=r"waiting had not come back after 0\.1 seconds, and was at .*"):
        caller.call("waiting", forever.wait, seconds=0.1)
    forever.set()


def test_a_subject_plays_commands(caller: Caller) -> None:
    env = Stairs()
    subject = Subject(env, caller)
    moments = subject.play(env.tasks("train")[0], ["climb", "rest"])
    assert [moment.command for moment in moments] == [None, "climb", "rest"]
    assert moments[0].observation.startswith("Your task is to: climb")
    assert not moments[-1].over


def test_a_subject_stops_the_check_at_a_wrong_answer(caller: Caller) -> None:
    env = ResetText()
    with pytest.raises(CheckStopped, match="reset of task 'train-0' returned a str"):
        Subject(env, caller).reset(env.tasks("train")[0])
    raising = Subject(StepRaises(), caller)
    raising.reset(env.tasks("train")[0])
    with pytest.raises(CheckStopped, match=r"step\('climb'\) raised SystemExit: 3"):
        raising.step("climb")


def test_an_attempt_returns_the_value_or_the_error(caller: Caller) -> None:
    subject = Subject(Stairs(), caller)
    assert subject.attempt("one", lambda: 1) == (1, None)
    returned, error = subject.attempt("division", lambda: 1 / 0)
    assert returned is None
    assert isinstance(error, ZeroDivisionError)


def test_five_values_are_a_moment() -> None:
    assert moment_of("go", ("a room", 0.5, True, False, {"success": True})) == Moment(
        command="go",
        observation="a room",
        reward=0.5,
        terminated=True,
        truncated=False,
        info={"success": True},
    )
    with pytest.raises(CheckStopped, match=r"step\('go'\) returned a tuple of 2"):
        moment_of("go", ("a room", {}))


@pytest.mark.parametrize(
    ("flags", "over"),
    [
        ({}, False),
        ({"terminated": True}, True),
        ({"truncated": np.True_}, True),
        ({"terminated": np.arange(3)}, True),
    ],
)
def test_a_flag_that_cannot_be_read_ends_the_episode(flags: dict[str, Any], over: bool) -> None:
    assert moment(**flags).over is over


def test_the_commands_of_a_moment_are_the_texts_of_its_list() -> None:
    assert moment().commands is None
    assert moment(info={"admissible_commands": "go"}).commands is None
    assert moment(info={"admissible_commands": ("go", 3, "rest")}).commands == ["go", "rest"]


def test_a_call_is_named_by_its_command() -> None:
    assert moment(command=None).call == "reset"
    assert moment(command="go").call == "step('go')"


def test_none_is_as_good_as_no_value() -> None:
    plain = moment(info={"success": True, "other": 1})
    padded = moment(info={"success": True, "expert_command": None})
    assert plain.compared_values() == padded.compared_values()
    assert plain.compared_values() == {
        "observation": "a room",
        "reward": 0.0,
        "terminated": False,
        "truncated": False,
        "success": True,
    }


def test_truthy_never_raises() -> None:
    assert truthy(1) is True
    assert truthy("") is False
    assert truthy(np.arange(3)) is False
    assert truthy(np.arange(3), otherwise=True) is True


def test_a_long_repr_is_cut_off() -> None:
    assert short_repr("a\n b") == r"'a\n b'"
    assert short_repr(list(range(3))) == "[0, 1, 2]"
    text = short_repr("a" * 100)
    assert text == "'" + "a" * 56 + "..."
    assert len(text) == 60
