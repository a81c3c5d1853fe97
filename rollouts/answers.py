"""What an environment's `reset` and `step` returned, checked against the contract of `TextEnv`.

Environments are other people's code: a wrong answer ends one episode with a sentence, and never the process.
"""

import math
from numbers import Real
from typing import Any

import numpy as np


def reset_fault(answer: Any) -> str:
    """What is wrong with the answer of a `reset`; "" where nothing is."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return f"returned {_kind(answer)}; a TextEnv returns a tuple of two: observation, info"
    observation, info = answer
    return _observation_fault(observation) or _info_fault(info)


def step_fault(answer: Any) -> str:
    """What is wrong with the answer of a `step`; "" where nothing is."""
    if not isinstance(answer, tuple) or len(answer) != 5:
        return f"returned {_kind(answer)}; a TextEnv returns a tuple of five: {', '.join(_STEP)}"
    observation, reward, terminated, truncated, info = answer
    if not isinstance(reward, Real) or not math.isfinite(reward):
        value = reward if isinstance(reward, Real) else _kind(reward)
        return f"returned {value} as reward; a TextEnv returns a finite number"
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not _is_bool(flag):
            return f"returned {_kind(flag)} as {name}; a TextEnv returns a bool"
    return _observation_fault(observation) or _info_fault(info)


_STEP = ("observation", "reward", "terminated", "truncated", "info")


def _observation_fault(observation: Any) -> str:
    if isinstance(observation, str):
        return ""
    return f"returned {_kind(observation)} as observation; a TextEnv returns text: str"


def _info_fault(info: Any) -> str:
    if not isinstance(info, dict):
        return f"returned {_kind(info)} as info; a TextEnv returns a dict"
    if "success" not in info:
        return "returned info without 'success'; a TextEnv says there whether the task is done: a bool"
    if not _is_bool(info["success"]):
        return f"returned {_kind(info['success'])} as info['success']; a TextEnv says there whether it is done: a bool"
    commands = info.get("admissible_commands")
    if commands is not None and not (isinstance(commands, list | tuple) and all(isinstance(c, str) for c in commands)):
        return "returned as info['admissible_commands'] what is no list of str; a TextEnv lists str, or has no such key"
    advice = info.get("expert_command")
    if advice is not None and not isinstance(advice, str):
        return f"returned {_kind(advice)} as info['expert_command']; a TextEnv gives a str, or has no such key"
    return ""


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
