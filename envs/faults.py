"""What an environment's `reset` and `step` returned, checked against the contract of `TextEnv`.

Environments are other people's code: in training, a wrong answer ends one episode with a sentence,
and never the process. The conformance check asks the same functions, so that what passes it trains.

What does no harm is taken: numpy's numbers and bools, a bool as a reward, any mapping as `info`, a
tuple of commands, and None for `admissible_commands` or `expert_command`, which says as much as no
key.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

RESET = ("observation", "info")
"""What a `reset` returns."""
STEP = ("observation", "reward", "terminated", "truncated", "info")
"""What a `step` returns."""


def reset_fault(answer: Any) -> str:
    """What is wrong with the answer of a `reset`; "" where nothing is."""
    return shape_fault(answer, RESET) or next(
        iter(value_faults(dict(zip(RESET, answer, strict=True))).values()), ""
    )


def step_fault(answer: Any) -> str:
    """What is wrong with the answer of a `step`; "" where nothing is."""
    return shape_fault(answer, STEP) or next(
        iter(value_faults(dict(zip(STEP, answer, strict=True))).values()), ""
    )


def shape_fault(answer: Any, names: tuple[str, ...]) -> str:
    """What is wrong with an answer of which one cannot even say which value is which; "" where
    nothing is.
    """
    if not isinstance(answer, tuple) or len(answer) != len(names):
        count = "two" if names is RESET else "five"
        return f"returned {_kind(answer)}; a TextEnv returns a tuple of {count}: {', '.join(names)}"
    if not isinstance(answer[-1], Mapping):
        return f"returned {_kind(answer[-1])} as info; a TextEnv returns a dict"
    return ""


def value_faults(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the values of an answer, by the name of each, those of `info` included."""
    info = values["info"]
    faults = {"observation": _text_fault("observation", values["observation"])}
    if "reward" in values and not _is_finite_number(values["reward"]):
        reward = values["reward"]
        shown = f"{float(reward)}" if isinstance(reward, float | np.floating) else _kind(reward)
        faults["reward"] = f"returned {shown} as reward; a TextEnv returns a finite number"
    for name in ("terminated", "truncated"):
        if not is_bool(values.get(name, False)):
            faults[name] = (
                f"returned {_kind(values[name])} as {name}; a TextEnv returns a bool: bool(...) of it"
            )
    if "success" not in info:
        faults["success"] = (
            "returned info without 'success'; a TextEnv says there whether the task is done, after reset too: a bool"
        )
    elif not is_bool(info["success"]):
        faults["success"] = (
            f"returned {_kind(info['success'])} as info['success']; a TextEnv says there whether it is done: a bool"
        )
    faults["admissible_commands"] = _commands_fault(info.get("admissible_commands"))
    advice = info.get("expert_command")
    if advice is not None:
        faults["expert_command"] = _text_fault(
            "info['expert_command']", advice, ", or has no such key"
        )
    return {name: fault for name, fault in faults.items() if fault}


def is_bool(value: Any) -> bool:
    """Whether it is a bool, numpy's included."""
    return isinstance(value, bool | np.bool_)


def _is_finite_number(value: Any) -> bool:
    if not isinstance(value, Real | np.bool_):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _commands_fault(commands: Any) -> str:
    if commands is None:
        return ""
    name = "info['admissible_commands']"
    if not isinstance(commands, list | tuple) or not all(
        isinstance(command, str) for command in commands
    ):
        return f"returned as {name} what is no list of str; a TextEnv lists str, or has no such key"
    return next((fault for command in commands if (fault := _text_fault(name, command))), "")


def _text_fault(name: str, text: Any, otherwise: str = "") -> str:
    if not isinstance(text, str):
        return f"returned {_kind(text)} as {name}; a TextEnv returns text: str{otherwise}"
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        part = ascii(text[error.start])
        return f"returned as {name} a text that cannot be written as UTF-8: it holds {part}, half a character"
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
