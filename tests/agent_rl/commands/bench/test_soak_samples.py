"""What a sample of a command holds: its processes, their memory, its folders."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent_rl.commands.bench.soak_samples import folder_mib, kind_of, ray_folders, take_sample

_CHILD = "import time; print('up', flush=True); time.sleep(60)"
_CHILD_WITH_CHILD = (
    "import subprocess, sys; block = bytearray(64 * 2**20); "
    f"subprocess.run([sys.executable, '-c', {_CHILD!r}])"
)


def test_a_sample_counts_descendants_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n{}\n{}\n")
    (tmp_path / "weights").write_bytes(b"x" * 2**21)
    command = [sys.executable, "-c", _CHILD_WITH_CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        begin = time.monotonic() - 5.0
        root = psutil.Process(child.pid)
        sample = take_sample(root, tmp_path, tmp_path / "metrics.jsonl", begin)
        for process in root.children(recursive=True):
            process.kill()
    assert sample.processes == 2
    assert sample.steps == 3
    assert sample.seconds == pytest.approx(5.0, abs=2.0)
    assert set(sample.memory_mib) == {"driver", "others"}
    assert 64 < sample.memory_mib["driver"] < 128
    assert sample.memory_mib_all == sum(sample.memory_mib.values())
    assert sample.open_files >= 6
    assert sample.threads >= 2
    # The large file, and a block for the small one.
    assert 2 <= sample.run_mib < 2.1
    assert sample.ray_mib == 0


def test_kinds_of_processes() -> None:
    assert kind_of(True, ["python"]) == "driver"
    assert kind_of(False, ["ray::PolicyActor.generate"]) == "PolicyActor"
    assert kind_of(False, ["ray::DashboardAgent"]) == "Ray's own"
    assert kind_of(False, ["/x/ray/gcs_server", "--log_dir=/tmp"]) == "Ray's own"
    assert kind_of(False, ["sleep", "3"]) == "others"
    assert kind_of(False, []) == "others"


def test_the_folder_of_a_cluster_is_in_its_raylets_command_line() -> None:
    command = ["raylet", "--node=1", "--raylet_socket_name=/tmp/ray/session_1/sockets/raylet"]
    assert ray_folders(command) == {Path("/tmp/ray/session_1")}
    assert ray_folders(["gcs_server", "--log_dir=/tmp/ray/session_1/logs"]) == set()


def test_a_folder_is_as_large_as_its_blocks(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "full").write_bytes(b"x" * 2**20)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**30)
    assert folder_mib(tmp_path) == pytest.approx(1.0, abs=0.01)
    assert folder_mib(tmp_path / "missing") == 0
