"""What a run's folder tells of its training's end."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.runs.ending import read_end, recorded_end
from agent_rl.runs.layout import RunLayout


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    """A run with a policy."""
    (tmp_path / "init").mkdir()
    return RunLayout(tmp_path)


def not_stopped() -> str:
    """No signal came."""
    return ""


def end_of(
    run: RunLayout, error: BaseException | None, stopped_by: Callable[[], str] = not_stopped
) -> tuple[str, str]:
    """State and reason after a training that ended with an error, or well."""
    raises: AbstractContextManager[object] = nullcontext()
    if error is not None:
        raises = pytest.raises(type(error))
    with raises, recorded_end(run, stopped_by):
        # While it goes on, nothing tells an end.
        assert read_end(run) is None
        if error is not None:
            raise error
    end = read_end(run)
    assert end is not None
    return end.state, end.reason


def test_each_end_replaces_the_one_before(run: RunLayout) -> None:
    assert end_of(run, None) == ("finished", "")
    assert end_of(run, ConfigError("env e: no\n task")) == ("failed", "env e: no task")
    assert end_of(run, KeyError("x")) == ("failed", "KeyError: 'x'")
    assert end_of(run, KeyboardInterrupt()) == ("interrupted", "")
    # What fails because of a signal is a stop, too.
    assert end_of(run, RuntimeError("gone"), lambda: "SIGTERM") == ("interrupted", "SIGTERM")
    state, reason = end_of(run, ValueError("x" * 5000))
    assert (state, len(reason)) == ("failed", 1004)


def test_a_folder_with_its_lock_alone_stays_so(tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    run.lock_file.touch()
    with pytest.raises(ConfigError), recorded_end(run, not_stopped):
        raise ConfigError("no such model")
    assert [*tmp_path.iterdir()] == [run.lock_file]


def test_a_torn_file_tells_nothing(run: RunLayout) -> None:
    for text in ("", '{"state": "failed"}', '{"state": "lost", "reason": "", "at": ""}'):
        run.ending_file.write_text(text)
        assert read_end(run) is None
