"""Any error of a load becomes a sentence; what users meet is in `test_loading.py`."""

from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.policy.refusals import explained, reason


def chained() -> None:
    try:
        raise ValueError("needs trust_remote_code")
    except ValueError as error:
        raise KeyError("auto_map") from error


def test_an_error_of_any_type_names_the_source_and_what_it_has_to_be(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=rf"model {tmp_path}: cannot be loaded \(KeyError: "),
        explained(str(tmp_path), ""),
    ):
        chained()
    with (
        pytest.raises(ConfigError, match="model me/mine: the hub's model cannot be loaded"),
        explained("me/mine", ""),
    ):
        raise KeyError("auto_map")


def test_a_reason_is_short_and_on_one_line() -> None:
    assert reason(ValueError("one\n  two")) == "one two"
    assert reason(KeyError("x")) == "KeyError: 'x'"
    assert len(reason(ValueError("word " * 100))) <= 240
