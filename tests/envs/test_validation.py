from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from envs import reset_fault, step_fault

OK = {"success": False}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (("a room", OK), ""),
        (
            (
                "a room",
                {"success": np.False_, "admissible_commands": ("go",), "expert_command": None},
            ),
            "",
        ),
        ("a room", "returned a str; reset has to return a tuple of two: (observation, info)"),
        (None, "returned None; "),
        (("a room", OK, 0), "returned a tuple of 3; "),
        ((7, OK), "returned an int as observation; a TextEnv returns text: str"),
        (("a room", None), "returned None as info, which has to be a dict"),
        (("a room", {}), "returned info without 'success'"),
        (("a room", {"success": 1}), "returned an int as info['success']"),
        (
            ("a room", {**OK, "admissible_commands": "go"}),
            "a TextEnv returns a list of str, or has no such key",
        ),
        (
            ("a room", {**OK, "admissible_commands": ["go", 2]}),
            "a TextEnv returns a list of str, or has no such key",
        ),
        (("a room", {**OK, "expert_command": 3}), "returned an int as info['expert_command']"),
        (("a room", MappingProxyType({**OK, "admissible_commands": None})), ""),
        (
            (
                "na\u00efve \U0001f600",
                {**OK, "admissible_commands": ["caf\u00e9"], "expert_command": "caf\u00e9"},
            ),
            "",
        ),
        (
            ("a room\ud800", OK),
            "as observation a text that cannot be written as UTF-8: it holds '\\ud800', half a",
        ),
        (
            ("a room", {**OK, "admissible_commands": ["go", "\udc80"]}),
            "['admissible_commands'] a text that cannot be",
        ),
        (
            ("a room", {**OK, "expert_command": "\udc80"}),
            "info['expert_command'] a text that cannot be written as UTF-8",
        ),
    ],
)
def test_resets(answer: Any, fault: str) -> None:
    assert fault in reset_fault(answer)
    assert bool(reset_fault(answer)) == bool(fault)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (("a room", 0, False, False, OK), ""),
        (("a room", np.float32(0.5), np.True_, False, OK), ""),
        (("a room", True, False, False, OK), ""),
        (("a room", np.int64(1), False, False, OK), ""),
        (
            ("a room", 10**400, False, False, OK),
            "returned an int as reward; a TextEnv returns a finite number",
        ),
        (("a room", np.ones(2), False, False, OK), "returned a ndarray as reward"),
        (("a room", 0.0, np.zeros(2), False, OK), "returned a ndarray as terminated"),
        (("a \ud800", 0.0, False, False, OK), "cannot be written as UTF-8"),
        (
            ("a room", 0.0, False, OK),
            "returned a tuple of 4; step has to return a tuple of five: (observation, reward",
        ),
        (
            ("a room", "1", False, False, OK),
            "returned a str as reward; a TextEnv returns a finite number",
        ),
        (("a room", float("nan"), False, False, OK), "returned nan as reward"),
        (("a room", None, False, False, OK), "returned None as reward"),
        (("a room", 0.0, 0, False, OK), "returned an int as terminated; a TextEnv returns a bool"),
        (("a room", 0.0, False, None, OK), "returned None as truncated"),
        ((b"a room", 0.0, False, False, OK), "returned a bytes as observation"),
        (("a room", 0.0, False, False, {}), "returned info without 'success'"),
    ],
)
def test_steps(answer: Any, fault: str) -> None:
    assert fault in step_fault(answer)
    assert bool(step_fault(answer)) == bool(fault)
