import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from rollouts.processes import ray_folder as module
from rollouts.processes.ray_folder import ray_folder


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only other folder that Ray may use; its path is short enough."""
    folder = Path("/tmp")
    monkeypatch.setattr(module, "_OTHERS", (folder,))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return folder


def test_the_variables_in_their_order(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert ray_folder() == Path("/tmp/ray")
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert ray_folder() == Path("/var/tmp/ray")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/made-by-ray")
    assert ray_folder() == Path("/tmp/made-by-ray/ray")


def test_a_path_that_is_too_long_for_sockets_is_left_with_one_line(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    long = tmp_path / ("a" * 60)
    monkeypatch.setenv("TMPDIR", str(long))
    assert ray_folder() == short / "ray"
    assert caplog.messages == [
        f"temporary folder {long} (TMPDIR): its path is too long for sockets (39 bytes are the "
        "most); Ray uses /tmp instead, or the folder in RAY_TMPDIR"
    ]
    monkeypatch.setattr(module, "_OTHERS", (long,))
    with pytest.raises(ValueError, match=r"\(TMPDIR\): .* set RAY_TMPDIR to a folder that Ray can"):
        ray_folder()


def test_a_folder_that_cannot_be_written_is_left(
    short: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")
    assert ray_folder() == short / "ray"
    assert "temporary folder /dev/null/x (RAY_TMPDIR): it cannot be written" in caplog.text


def test_a_full_folder_is_left(
    short: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=2**30 if path.is_relative_to(short) else 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert ray_folder() == short / "ray"
    assert "it is full (1 MiB free)" in caplog.text
