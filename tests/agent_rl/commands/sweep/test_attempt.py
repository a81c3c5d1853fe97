"""A job's process: how it is stopped, and what is left of it; the sweep's lock."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent_rl.commands.sweep.attempt import read_attempts, sweep_lock
from agent_rl.commands.sweep.plan import Sweep
from agent_rl.config import ConfigError
from tests.builders.paths import ROOT
from tests.builders.sweeps import STEPS, go, wait_for


def test_a_folder_is_one_sweeps(sweep: Sweep) -> None:
    with (
        sweep_lock(sweep.folder) as lock,
        pytest.raises(ConfigError, match="another sweep is at work there"),
        sweep_lock(sweep.folder, wait_seconds=0.0),
    ):
        pass
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(lock)
    with sweep_lock(sweep.folder, wait_seconds=0.0):
        pass


DRIVER = """
import sys
from agent_rl.commands.sweep.plan import read_sweep
from agent_rl.commands.sweep.run import run_sweep
from tests.builders.sweeps import comparison, stand_in
sys.exit(run_sweep(read_sweep(sys.argv[1]), command=stand_in, comparison=comparison))
"""


def driver(sweep: Sweep, config: Path, *, wait: str) -> subprocess.Popen[str]:
    """Start a sweep in its own process group, as at a terminal; its run `wait` waits already."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(config)],
        env={**os.environ, "WAIT": wait, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = sweep.folder / wait / "log.txt"
    wait_for(lambda: log.is_file() and "waiting" in log.read_text(), 60)
    return process


@pytest.mark.process
@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_ctrl_c_stops_the_present_run_and_says_how_to_go_on(
    send: Callable[[int, int], None], number: int, sweep: Sweep, tmp_path: Path
) -> None:
    process = driver(sweep, tmp_path / "c.yaml", wait="fast-s0")
    (run,) = psutil.Process(process.pid).children()
    assert os.getpgid(run.pid) == run.pid, "Ctrl-C at the terminal would reach the run twice"
    send(process.pid, number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (sweep.folder / "fast-s0/log.txt").read_text().endswith("waiting\nclosed\n")
    assert "the same command resumes" in printed.replace("\n", " ")
    assert read_attempts(sweep.runs[1])[-1].error == "stopped"
    assert go(sweep)[1][:2] == ["fast-s0 resume", "comparison"]
    assert [(one.stage, one.steps, one.exit) for one in read_attempts(sweep.runs[1])] == [
        ("new", STEPS, 130),
        ("resume", STEPS - 4, 0),
    ]


@pytest.mark.process
def test_the_run_of_a_killed_sweep_holds_the_folder_while_it_is_there(
    sweep: Sweep, tmp_path: Path
) -> None:
    process = driver(sweep, tmp_path / "c.yaml", wait="gmpo-s0")
    process.kill()
    process.communicate(timeout=60)
    with (
        pytest.raises(ConfigError, match="another sweep is at work"),
        sweep_lock(sweep.folder, wait_seconds=0.0),
    ):
        pass
    arguments = ["gmpo-s0", "new", str(sweep.runs[0].layout.config_file)]
    (orphan,) = [
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if (one.info["cmdline"] or [])[3:6] == arguments
    ]
    os.kill(orphan, signal.SIGKILL)
    with sweep_lock(sweep.folder):
        pass
