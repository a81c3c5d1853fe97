"""Checks of the options that a person sets for an environment or a generator of games."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from envs.nearest import hint

Settings = TypeVar("Settings")


def is_int(value: Any) -> bool:
    """Whether the value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def checked_int(key: str, value: Any, least: int, most: int | None = None) -> int:
    """Return `value` if it is a whole number from `least` to `most`.

    Args:
        key: the option in the error message, for example `env.options: train` or `games.seed`.
        value: what the person set.
        least: the smallest number that is allowed.
        most: the largest one; None for no limit.

    Raises:
        ValueError: `value` is something else.
    """
    if is_int(value) and value >= least and (most is None or value <= most):
        return int(value)
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{key}: {value!r} is not a whole number {allowed}")


def settings_from(kind: type[Settings], values: Mapping[str, Any], section: str) -> Settings:
    """Build a settings dataclass from the mapping in a config file.

    Args:
        kind: the dataclass.
        values: its fields by name; a missing one keeps its default.
        section: the name of the mapping in error messages, for example `games`.

    Raises:
        ValueError: a key is not a field of `kind`, or `kind` refuses a value.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ValueError(f"{section}.{key}: not known{hint(str(key), known)}")
    return kind(**values)
