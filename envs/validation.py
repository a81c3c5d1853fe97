"""Checks of the answers of an environment's `reset` and `step` against the contract of `TextEnv`.

Environments are other people's code. In training, a wrong answer ends one episode with a sentence,
never the process. The conformance check uses the same functions: an environment that passes it can
be trained on.

Harmless deviations are accepted: numpy's numbers and bools, a bool as a reward, any mapping as
`info`, a tuple of commands. None for `admissible_commands` or `expert_command` means the same as a
missing key.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

RESET = ("observation", "info")
"""The names of the values that `reset` returns."""
STEP = ("observation", "reward", "terminated", "truncated", "info")
"""The names of the values that `step` returns."""


def reset_fault(answer: Any) -> str:
    """Say what is wrong with the answer of a `reset`; "" if nothing is."""
    return _first_fault(answer, RESET)


def step_fault(answer: Any) -> str:
    """Say what is wrong with the answer of a `step`; "" if nothing is."""
    return _first_fault(answer, STEP)


def shape_fault(answer: Any, names: tuple[str, ...]) -> str:
    """Say why the values of an answer cannot be told apart; "" if they can.

    Args:
        answer: what the environment returned.
        names: `RESET` or `STEP`.
    """
    if not isinstance(answer, tuple) or len(answer) != len(names):
        call, count = ("reset", "two") if names is RESET else ("step", "five")
        return (
            f"returned {_kind(answer)}; {call} has to return a tuple of {count}: "
            f"({', '.join(names)})"
        )
    if not isinstance(answer[-1], Mapping):
        return f"returned {_kind(answer[-1])} as info, which has to be a dict"
    return ""


def value_faults(values: Mapping[str, Any]) -> dict[str, str]:
    """Say what is wrong with the values of an answer; those of `info` are included.

    Args:
        values: the values by their names in `RESET` or `STEP`.

    Returns:
        A sentence for each wrong value, by its name or its key in `info`; empty if all are right.
    """
    info = values["info"]
    faults = {"observation": _text_fault("observation", values["observation"])}
    if "reward" in values:
        faults["reward"] = _reward_fault(values["reward"])
    for name in ("terminated", "truncated"):
        if not is_bool(values.get(name, False)):
            kind = _kind(values[name])
            faults[name] = f"returned {kind} as {name}; a TextEnv returns a bool: bool(...) of it"
    faults["success"] = _success_fault(info)
    faults["admissible_commands"] = _commands_fault(info.get("admissible_commands"))
    advice = info.get("expert_command")
    if advice is not None:
        faults["expert_command"] = _text_fault(
            "info['expert_command']", advice, ", or has no such key"
        )
    return {name: fault for name, fault in faults.items() if fault}


def is_bool(value: Any) -> bool:
    """Whether the value is a bool, of Python or of numpy."""
    return isinstance(value, bool | np.bool_)


def stated_success(info: Mapping[str, Any]) -> bool | None:
    """Read what a gymnasium environment says about its success; None if it says nothing.

    It may say so under `success` or `is_success`, as a bool, or as 0 or 1 of any type of numbers.

    Raises:
        ValueError: the value is something else, or the two differ.
    """
    stated: set[bool] = set()
    for key in ("success", "is_success"):
        value = info.get(key)
        if value is None:
            continue
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.item()
        if not isinstance(value, Real | np.bool_) or value not in (0, 1):
            raise ValueError(f"info[{key!r}] is {value!r}, which is no bool and neither 0 nor 1")
        stated.add(bool(value))
    if len(stated) > 1:
        raise ValueError("info['success'] and info['is_success'] differ; return one of them")
    return stated.pop() if stated else None


def _first_fault(answer: Any, names: tuple[str, ...]) -> str:
    fault = shape_fault(answer, names)
    if fault:
        return fault
    values = dict(zip(names, answer, strict=True))
    faults = list(value_faults(values).values())
    return faults[0] if faults else ""


def _reward_fault(reward: Any) -> str:
    if _is_finite_number(reward):
        return ""
    # A float has the right type, so its value says more: nan or inf.
    is_float = isinstance(reward, float | np.floating)
    returned = f"{float(reward)}" if is_float else _kind(reward)
    return f"returned {returned} as reward; a TextEnv returns a finite number"


def _is_finite_number(value: Any) -> bool:
    if not isinstance(value, Real | np.bool_):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _success_fault(info: Mapping[str, Any]) -> str:
    if "success" not in info:
        also = ", not 'is_success'" if "is_success" in info else ""
        return (
            f"returned info without 'success'{also}; a TextEnv says there whether the task is "
            "done, after reset too: a bool"
        )
    if not is_bool(info["success"]):
        return (
            f"returned {_kind(info['success'])} as info['success']; a TextEnv says there whether "
            "the task is done: a bool"
        )
    return ""


def _commands_fault(commands: Any) -> str:
    if commands is None:
        return ""
    name = "info['admissible_commands']"
    is_list = isinstance(commands, list | tuple)
    if not is_list or not all(isinstance(command, str) for command in commands):
        kind = "a list that holds other values than str" if is_list else _kind(commands)
        return f"returned {kind} as {name}; a TextEnv returns a list of str, or has no such key"
    for command in commands:
        fault = _text_fault(name, command)
        if fault:
            return fault
    return ""


def _text_fault(name: str, text: Any, otherwise: str = "") -> str:
    if not isinstance(text, str):
        return f"returned {_kind(text)} as {name}; a TextEnv returns text: str{otherwise}"
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        part = ascii(text[error.start])
        return (
            f"returned as {name} a text that cannot be written as UTF-8: it holds {part}, "
            "half a character"
        )
    return ""


def _kind(value: Any) -> str:
    """The type of a value in words, for example "an int" or "a tuple of 3"."""
    if value is None:
        return "None"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = type(value).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    return f"{article} {name}"
