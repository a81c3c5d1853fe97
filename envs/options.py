"""Checks of the options that a person sets for an environment or a generator of games.

YAML reads `1e0` as a text, and `yes` and `off` as bools. An option is read as what its argument or
field is declared to be, or refused.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Real
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from envs.nearest import hint

Settings = TypeVar("Settings")

_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)
"""The texts that are read as bools."""


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
    types = get_type_hints(kind)
    read = {key: read_as(types[key], f"{section}.{key}", value) for key, value in values.items()}
    return kind(**read)


def read_arguments(
    call: Callable[..., Any], values: Mapping[str, Any], section: str
) -> dict[str, Any]:
    """Read the arguments of a call as the types in its signature.

    An argument without a type is taken for one of its default's type, if the value can be read so.

    Args:
        call: a class or a function; it is not called.
        values: arguments by name.
        section: where they are set, for error messages: `env.options`.

    Raises:
        ValueError: a value is of another type; the message names the argument.
    """
    parameters = _parameters(call)
    read = dict(values)
    for name, value in values.items():
        parameter = parameters.get(name)
        if parameter is None:
            continue
        if parameter.annotation is not parameter.empty:
            read[name] = read_as(parameter.annotation, f"{section}: {name}", value)
        elif isinstance(value, str):
            read[name] = _guessed(type(parameter.default), value)
    return read


def read_as(kind: Any, key: str, value: Any) -> Any:
    """Read a value as a type: a text as a number or a bool, a whole float as a whole number.

    None, and values of types other than bool, int, float and str and sequences of them, are
    returned as they are.

    Args:
        kind: the type, as it is written in a signature.
        key: the option in the error message, for example `env.options: size`.
        value: what the person set.

    Raises:
        ValueError: `value` is of another type.

    >>> read_as(float, "env.options: success_return", "1e0")
    1.0
    """
    if value is None:
        return None
    if get_origin(kind) in (Union, UnionType):
        return _read_as_one_of(get_args(kind), key, value)
    if inspect.isclass(kind) and kind in _READERS:
        return _READERS[kind](key, value)
    origin = get_origin(kind)
    is_list = inspect.isclass(origin) and issubclass(origin, Sequence)
    if not is_list or not isinstance(value, list | tuple):
        return value
    inner = [part for part in get_args(kind) if part is not Ellipsis]
    kinds = inner * len(value) if len(inner) == 1 else inner
    if len(kinds) != len(value):
        return value
    read = [read_as(part, key, one) for part, one in zip(kinds, value, strict=True)]
    return type(value)(read)


def _read_as_one_of(kinds: Sequence[Any], key: str, value: Any) -> Any:
    """Read a value as the first of several types that fits."""
    if type(value) in kinds:
        return value
    refused: ValueError | None = None
    for kind in kinds:
        if kind is not type(None):
            try:
                return read_as(kind, key, value)
            except ValueError as error:
                refused = refused or error
    raise refused or ValueError(f"{key}: {value!r} is not null")


def _read_bool(key: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    read = _BOOLS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    if read is None:
        raise ValueError(f"{key}: {value!r} is neither true nor false")
    return read


def _read_int(key: str, value: Any) -> int:
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        raise ValueError(f"{key}: {value!r} is not a whole number")
    return int(number)


def _read_float(key: str, value: Any) -> Any:
    number = _number(value)
    if number is None:
        raise ValueError(f"{key}: {value!r} is not a number")
    return float(number) if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """A number, or the one that a text writes; None for anything else, bools and nan too."""
    if isinstance(value, str):
        for read in (int, float):
            try:
                return _number(read(value))
            except ValueError:
                continue
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or value != value:
        return None
    return value


def _read_str(key: str, value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | Real):
        raise ValueError(
            f"{key}: {value!r} is not a text; write it in quotes (YAML reads yes, no, on, off and "
            "numbers as what they look like)"
        )
    return value


_READERS: dict[Any, Callable[[str, Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
}


def _guessed(kind: type, value: str) -> Any:
    """A text read as the type of a default, if it can be; a default 3 may also become 3.5."""
    if kind in (int, float):
        number = _number(value)
        return value if number is None else number
    return _BOOLS.get(value.strip().lower(), value) if kind is bool else value


def _parameters(call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a call. Types that are written as texts are looked up, if they can be."""
    try:
        return inspect.signature(call, eval_str=True).parameters
    except (NameError, AttributeError, TypeError, SyntaxError):
        return inspect.signature(call).parameters
