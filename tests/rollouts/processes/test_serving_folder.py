import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rollouts.processes import serving_folder
from rollouts.processes.serving_folder import ServingFolder, remove_stale_folders, roomy_parent
from tests.builders.paths import ROOT

MIB = 2**20
HOLD = """
import sys
from pathlib import Path
from rollouts.processes.serving_folder import ServingFolder
folder = ServingFolder(Path(sys.argv[1]))
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Folders that stand for /dev/shm and the temporary folder."""
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(serving_folder, "MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return memory, temporary


def test_a_folder_is_private_and_goes_on_close(places: tuple[Path, Path]) -> None:
    memory, _ = places
    a, b = ServingFolder(memory), ServingFolder(memory)
    assert a.path != b.path
    assert a.path.stat().st_mode & 0o777 == 0o700
    assert str(os.getpid()) not in a.path.name
    a.close()
    assert list(memory.iterdir()) == [b.path]
    b.close()


@pytest.mark.process
def test_a_folder_goes_when_its_process_is_gone_whatever_its_number(
    places: tuple[Path, Path],
) -> None:
    memory, _ = places
    command = [sys.executable, "-c", HOLD, str(memory)]
    owner = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    mine = ServingFolder(memory)
    remove_stale_folders()
    assert folder.exists(), "it was deleted, although its process lives"
    owner.kill()
    owner.wait()
    remove_stale_folders()
    assert list(memory.iterdir()) == [mine.path]
    mine.close()


def test_folders_of_others_stay(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    memory, temporary = places
    earlier, foreign = memory / "agent-rl-weights-77", temporary / "agent-rl-weights-abc"
    for folder in (earlier, foreign):
        folder.mkdir()
    (foreign / "lock").touch()
    link = memory / "agent-rl-weights-link"
    link.symlink_to(foreign)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        remove_stale_folders()
        assert foreign.exists()
    remove_stale_folders()
    assert earlier.exists(), "a folder without a lock may be in use by an earlier version"
    assert link.is_symlink()
    assert not foreign.exists(), "with our own number it is stale"


def with_free(monkeypatch: pytest.MonkeyPatch, free: Callable[[str], int]) -> None:
    usage = lambda path: SimpleNamespace(free=free(Path(path).name))  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_weights_need_twice_their_size(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory, temporary = places
    with_free(monkeypatch, {"memory": 232 * MIB, "temporary": 5000 * MIB}.__getitem__)
    assert roomy_parent(100 * MIB) == memory
    assert caplog.text == ""
    assert roomy_parent(101 * MIB) == temporary
    assert (
        f"{memory} has 232 MiB free, and the served weights need 234 MiB, as new ones are written "
        f"beside the old ones: they go to {temporary}" in caplog.text
    )
    with pytest.raises(ValueError, match="TMPDIR") as error:
        roomy_parent(2500 * MIB)
    assert str(error.value) == (
        "the served weights need 4.9 GiB free, as new ones are written beside the old ones: "
        f"{memory} has 232 MiB, {temporary} has 4.9 GiB; free space there, or name a larger folder "
        "in TMPDIR"
    )
