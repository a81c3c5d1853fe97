"""The whole conformance check: good environments pass, and a failure costs no other check."""

import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from envs import TextEnv, check_env, make_env, step_fault
from envs.conformance.report import Outcome, examine_env
from tests.builders.faulty_environments import (
    ARRAY,
    Hinted,
    Sleepy,
    Spoiled,
    Stairs,
    StepInt,
    failures_of,
)


@pytest.mark.parametrize("env", [Stairs, Stairs(), Hinted])
def test_a_good_environment_passes(env: TextEnv | Callable[[], TextEnv]) -> None:
    report = check_env(env)
    assert all(check.outcome is Outcome.PASSED for check in report.checks), report


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
    """Returns other types than TextEnv documents, all of them harmless."""

    def step(self, action: str) -> Any:
        text, reward, terminated, truncated, info = super().step(action)
        numpy_info = {
            "success": np.bool_(info["success"]),
            "admissible_commands": ("climb", "rest"),
            "expert_command": None,
        }
        return (
            text,
            np.float32(reward),
            np.bool_(terminated),
            np.bool_(truncated),
            MappingProxyType(numpy_info),
        )


def test_harmless_types_are_accepted() -> None:
    report = check_env(Numpys)
    remarks = {check.name: check.sentence for check in report.checks}
    assert remarks["endings"] == "games that ended: success, success, success"


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
def test_the_check_refuses_what_training_refuses(key: str, value: Any) -> None:
    env = Spoiled(key, value)
    env.reset(seed=0)
    fault = step_fault(env.step("rest"))
    failures = failures_of(lambda: Spoiled(key, value))
    assert fault == "" or any(fault in sentence for sentence in failures.values())
    assert bool(fault) == bool({"reset", "types"} & set(failures)), failures


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_environment_that_cannot_be_made_is_a_sentence(error: type[BaseException]) -> None:
    def make() -> TextEnv:
        raise error("no stairs")

    [failure] = examine_env(make).failures
    assert failure.sentence == f"making the environment raised {error.__name__}: no stairs."


def test_anything_but_a_text_env_is_a_sentence() -> None:
    [failure] = examine_env(dict).failures  # type: ignore[arg-type]
    assert failure.sentence == "the environment is a dict; make it a subclass of envs.TextEnv."


def test_one_fault_is_reported_once() -> None:
    report = examine_env(StepInt)
    assert [check.name for check in report.failures] == ["reset"]
    assert {check.outcome for check in report.checks[3:11]} == {Outcome.NOT_RUN}
    assert {check.sentence for check in report.checks[3:11]} == {"see above"}


def test_a_call_that_hangs_becomes_a_sentence() -> None:
    begin = time.monotonic()
    report = examine_env(Sleepy, seconds=0.3)
    assert time.monotonic() - begin < 3
    [failure] = report.failures
    assert failure.sentence.startswith("step('")
    assert "had not come back after 0.3 seconds, and was at " in failure.sentence
    assert failure.sentence.endswith("make sure that every wait in it has an end.")
    assert report.checks[-1].outcome is Outcome.NOT_RUN
