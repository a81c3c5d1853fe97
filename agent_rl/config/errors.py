"""The errors of a wrong config: each message names the file, the key, the value and the remedy."""

from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from agent_rl.config.config import Config
from agent_rl.config.keys import RENAMED_KEYS, RENAMED_VALUES
from envs.nearest import hint


class ConfigError(ValueError):
    """A configuration that cannot be run. The message names file, key, value and remedy."""


def explain(path: Path, error: ValidationError) -> str:
    """Return the message for values that pydantic refused: a line for each, with the right key."""
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"]]
        key = ".".join(location)
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: {key}: unknown key{_right_key(location)}")
        elif item["type"] == "missing":
            lines.append(f"{path}: {key}: missing; every config needs it")
        elif isinstance(item["input"], str) and item["input"] in RENAMED_VALUES.get(key, {}):
            new = RENAMED_VALUES[key][item["input"]]
            lines.append(f"{path}: {key}: {item['input']!r}: it is now {new!r}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            has_value = bool(location) and not isinstance(item["input"], dict)
            value = f": {item['input']!r}" if has_value else ""
            lines.append(f"{path}: {key}{value}: {message}" if key else f"{path}: {message}")
    return "\n".join(lines)


def _right_key(location: list[str]) -> str:
    """The end of the message for an unknown key: its new name, or the nearest known one."""
    key = ".".join(location)
    if key in RENAMED_KEYS:
        return f"; it is now {RENAMED_KEYS[key]!r}"
    return hint(location[-1], _known_keys(location[:-1]), label="known keys here")


def _known_keys(location: list[str]) -> list[str]:
    """The keys of the section at `location`, which may be optional (`X | None`)."""
    model: type[BaseModel] = Config
    for part in location:
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
