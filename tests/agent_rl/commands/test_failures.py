import errno
import stat
import tempfile
from pathlib import Path

import jinja2
import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError
from safetensors import SafetensorError

from agent_rl.commands.failures import BUG, MENDABLE, mendable_message, report
from agent_rl.config import ConfigError
from rollouts.processes.ray_failures import NoAnswer, ray_gone


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the logs: the temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def engine_died() -> RuntimeError:
    error = RuntimeError("the serving engine died: no answer")
    error.__cause__ = ActorDiedError()
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "x", "run/metrics.jsonl"),
            "run/metrics.jsonl: No space left on device; free space there, or name a folder on "
            "another disk",
        ),
        (
            PermissionError(errno.EACCES, "x", "run"),
            "run: Permission denied; change its permissions, or name another one",
        ),
        (
            OSError(errno.EROFS, "x", "run"),
            "run: Read-only file system; name a folder on another disk",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), "a: No such file"),
        (ConnectionError("the hub did not answer"), "the hub did not answer"),
        (SafetensorError("header too large"), "header too large; it may be cut off, or a pointer"),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            "No space left on device (os error 28); free space there",
        ),
        (jinja2.TemplateError("no system role"), "refuses a prompt: no system role; change prompt"),
        (MemoryError(), "the machine's memory is used up; lower learner.micro_batch_tokens"),
        (torch.OutOfMemoryError("tried to allocate 2 GiB. More"), "(tried to allocate 2 GiB); low"),
        (RayTaskError("f", "Traceback", OSError(errno.EROFS, "x", "a")), "a: Read-only file"),
        (ray_gone("raylet", -9, None), "Ray's own process raylet ended (SIGKILL), so no other pro"),
        (NoAnswer("the learner did not answer"), "the learner did not answer"),
        (engine_died(), "the serving engine died: no answer; the process of Ray died"),
    ],
    ids=str,
)
def test_what_can_be_mended_is_one_line(
    error: Exception, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == MENDABLE
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert "Traceback" not in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [KeyError("0"), RayTaskError("f", "Traceback", KeyError("0")), RuntimeError("x"), IndexError()],
    ids=str,
)
def test_a_bug_is_a_traceback_and_a_log_to_report(
    error: Exception, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mendable_message(error) is None
    with pytest.raises(type(error)) as raised:
        raise error
    assert report(raised.value) == BUG
    (log,) = logs.iterdir()
    shown = capsys.readouterr().err
    assert f"Please report it with {log}, which holds the traceback.\n" in shown
    assert "in test_a_bug_is_a_traceback" in shown
    assert "in test_a_bug_is_a_traceback" in log.read_text()
    assert "torch: " in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_message_of_ours_needs_no_log_and_one_of_a_library_has_one(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(ConfigError("c.yaml: seed: missing")) == MENDABLE
    assert capsys.readouterr().err == "error: c.yaml: seed: missing\n"
    assert list(logs.iterdir()) == []
    with pytest.raises(ValueError, match="empty") as raised:
        max([])
    assert report(raised.value) == MENDABLE
    (log,) = logs.iterdir()
    assert capsys.readouterr().err.endswith(f"; traceback: {log}\n")


def test_without_room_for_a_log_the_traceback_is_above(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nope")
    assert report(KeyError("0")) == BUG
    assert "Please report it with the traceback above." in capsys.readouterr().err
