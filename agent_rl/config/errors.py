"""The errors of a wrong config: each message names the file, the key, the value and the remedy."""

from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from agent_rl.config.config import Config
from agent_rl.config.keys import ABSENT_KEYS, RENAMED_KEYS, RENAMED_VALUES
from envs.nearest import hint, nearest
from rollouts.settings import Settings


class ConfigError(ValueError):
    """A configuration that cannot be run. The message names file, key, value and remedy."""


def explain(path: Path, error: ValidationError) -> str:
    """Return the message for values that pydantic refused: a line for each, with the right key."""
    lines = []
    unknown = [list(map(str, i["loc"])) for i in error.errors() if i["type"] == "extra_forbidden"]
    meant = [[*place, nearest(key, _known_keys(place))] for *place, key in unknown]
    for item in error.errors():
        location = [str(part) for part in item["loc"]]
        key = ".".join(location)
        if item["type"] == "missing" and location in meant:
            continue  # it is there, misspelled: the line of the unknown key says so
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: {key}: unknown key{_right_key(location)}")
        elif item["type"] == "missing":
            whole = "config" if len(location) == 1 else ".".join(location[:-1])
            lines.append(f"{path}: {key}: missing; every {whole} needs it")
        elif isinstance(item["input"], str) and item["input"] in RENAMED_VALUES.get(key, {}):
            new = RENAMED_VALUES[key][item["input"]]
            lines.append(f"{path}: {key}: {item['input']!r}: it is now {new!r}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            has_value = bool(location) and not isinstance(item["input"], dict)
            value = f": {item['input']!r}" if has_value else ""
            lines.append(f"{path}: {key}{value}: {message}" if key else f"{path}: {message}")
    return "\n".join(lines)


def settings_in(annotation: Any) -> type[Settings] | None:
    """Return the settings class in an annotation such as `X`, `X | None` or `tuple[X, ...]`.

    None if there is none, at any depth.
    """
    if _is_section(annotation):
        section: type[Settings] = annotation
        return section
    found = (settings_in(inner) for inner in get_args(annotation))
    return next((section for section in found if section is not None), None)


def _right_key(location: list[str]) -> str:
    """The end of the message for an unknown key: its new name, or what to use instead."""
    key = ".".join(location)
    if key in RENAMED_KEYS:
        return f"; it is now {RENAMED_KEYS[key]!r}"
    if key in ABSENT_KEYS:
        return f"; {ABSENT_KEYS[key]}"
    return hint(location[-1], _known_keys(location[:-1]), label="known keys here")


def _known_keys(location: list[str]) -> list[str]:
    """The keys of the section at `location`; none if it is no section of the config."""
    annotation: Any = Config
    for part in location:
        annotation = _inner(annotation, part)
    section = settings_in(annotation)
    return [] if section is None else list(section.model_fields)


def _inner(annotation: Any, part: str) -> Any:
    """The annotation of a section's key, of a list's item or of a mapping's value."""
    if _is_section(annotation):
        field = annotation.model_fields.get(part)
        return None if field is None else field.annotation
    within = next((a for a in get_args(annotation) if settings_in(a) is not None), None)
    # `X | None` is X itself; `tuple[X, ...]` and `dict[str, X]` hold it.
    is_optional = get_origin(annotation) in (Union, UnionType)
    return _inner(within, part) if is_optional and within is not None else within


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)
