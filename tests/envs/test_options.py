"""Checks of options: whole numbers, and settings from a mapping."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from envs.options import checked_int, is_int, read_arguments, read_as, settings_from


@dataclass(frozen=True)
class Garden:
    trees: int = 2
    pond: bool = False


def test_a_bool_is_not_a_whole_number() -> None:
    assert is_int(0)
    assert not is_int(False)
    assert not is_int(1.0)


@pytest.mark.parametrize("value", [3, 4, 20])
def test_a_whole_number_in_range_is_returned(value: int) -> None:
    assert checked_int("env.options: size", value, 3, 20) == value


@pytest.mark.parametrize("value", [2, 21, 3.0, "3", True, None])
def test_everything_else_is_an_error_that_names_the_key(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a whole number from 3 to 20") as refused:
        checked_int("env.options: size", value, 3, 20)
    assert str(refused.value).startswith(f"env.options: size: {value!r} ")


def test_true_is_no_number_where_one_is_allowed() -> None:
    with pytest.raises(
        ValueError, match=r"games\.copies: True is not a whole number of at least 1"
    ):
        checked_int("games.copies", True, 1)


def test_without_a_largest_number_any_size_goes() -> None:
    assert checked_int("games.train", 10**9, 0) == 10**9
    with pytest.raises(ValueError, match=r"games\.train: -1 is not a whole number of at least 0"):
        checked_int("games.train", -1, 0)


def test_settings_keep_their_defaults() -> None:
    assert settings_from(Garden, {"pond": True}, "garden") == Garden(trees=2, pond=True)


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"garden\.tree: not known; did you mean 'trees'"):
        settings_from(Garden, {"tree": 3}, "garden")


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (int, "3", 3),
        (int, "1e3", 1000),
        (int, 3.0, 3),
        (float, "1e0", 1.0),
        (float, "-2", -2.0),
        (float, 2, 2),
        (bool, "yes", True),
        (bool, "off", False),
        (bool, 0, False),
        (bool, np.bool_(True), True),
        (str, "1e0", "1e0"),
        (float | None, None, None),
        (float | None, "1e0", 1.0),
        (int | str, "3", "3"),
        (int, None, None),
        (Sequence[int], ["1", 2], [1, 2]),
        (tuple[int, int], ("4", 6), (4, 6)),
        (dict[str, int], {"a": "1"}, {"a": "1"}),
    ],
)
def test_a_value_is_read_as_its_type(kind: Any, value: Any, read: Any) -> None:
    found = read_as(kind, "env.options: x", value)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "3.5", "'3.5' is not a whole number"),
        (int, True, "True is not a whole number"),
        (int, float("inf"), "inf is not a whole number"),
        (float, "nan", "'nan' is not a number"),
        (float, False, "False is not a number"),
        (float | None, "abc", "'abc' is not a number"),
        (bool, 2, "2 is neither true nor false"),
        (bool, "abc", "'abc' is neither true nor false"),
        (str, False, "False is not a text; write it in quotes"),
        (Sequence[str] | None, ["a", True], "True is not a text; write it in quotes"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^env.options: x: {message}"):
        read_as(kind, "env.options: x", value)


def test_arguments_without_a_type_are_read_if_their_default_is_a_number_or_a_bool() -> None:
    def make(size=3, wet=True, name="a", rest=None) -> None:  # type: ignore[no-untyped-def]
        raise AssertionError("it is not called")

    given = {"size": "3.5", "wet": "no", "name": "7", "rest": "8", "more": "9"}
    read = {"size": 3.5, "wet": False, "name": "7", "rest": "8", "more": "9"}
    assert read_arguments(make, given, "env.options") == read
    assert read_arguments(make, {"size": "large", "wet": "a bit"}, "env.options") == {
        "size": "large",
        "wet": "a bit",
    }


def test_types_that_are_written_as_texts_are_looked_up() -> None:
    def make(size: "int", other: "NoSuchType" = None) -> None:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError("it is not called")

    def known(size: "int") -> None:
        raise AssertionError("it is not called")

    assert read_arguments(known, {"size": "3"}, "env.options") == {"size": 3}
    assert read_arguments(make, {"size": "3"}, "env.options") == {"size": "3"}


def test_settings_are_read_as_their_types() -> None:
    assert settings_from(Garden, {"trees": "1e1", "pond": "yes"}, "garden") == Garden(10, True)
    with pytest.raises(ValueError, match=r"garden\.pond: 'deep' is neither true nor false"):
        settings_from(Garden, {"pond": "deep"}, "garden")
