"""Checks of options: whole numbers, and settings from a mapping."""

from dataclasses import dataclass
from typing import Any

import pytest

from envs.options import checked_int, is_int, settings_from


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
