"""The process of a tracker outlives no run. What it says, it says once."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_rl.config import load_run_config
from agent_rl.runs.trackers.follower import Told
from agent_rl.runs.trackers.tracker_process import TrackerProcess
from tests.builders.paths import ROOT
from tests.builders.tracked_runs import tracked_stage

WANDB = """
class Settings:
    def __init__(self, **values): pass
class Table: pass
class Run:
    def log(self, metrics, step): pass
    def finish(self, exit_code): print("exit code", exit_code)
def init(**values):
    print(values["name"], values["group"], values["job_type"], values["config"]["seed"])
    return Run()
"""


@pytest.mark.process
def test_the_death_of_the_driver_ends_the_tracker(tmp_path: Path) -> None:
    """The pipe ends without a word, as the kernel closes it."""
    stage = tracked_stage(tmp_path / "r", steps=2, run_name="mine")
    (tmp_path / "wandb.py").write_text(WANDB)
    end, driver = os.pipe()
    os.close(driver)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "agent_rl.runs.trackers.tracker_process"),
            *("wandb", str(stage.folder), str(end), str(os.getpid())),
        ],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        pass_fds=(end,),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(end)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert ended.stderr.splitlines() == ["mine mine train 0", "exit code 1"]
    assert Told.read(stage, "wandb").step == 2


def test_a_failure_is_said_once_until_it_is_over_and_a_warning_once(tmp_path: Path) -> None:
    stage, said = tracked_stage(tmp_path), io.StringIO()
    process = TrackerProcess("wandb", stage, load_run_config(stage.config_file), 0, said)
    for reason in ("first\nreason", "second"):
        process._warn(reason)
    for warning in ("careful", "careful", "x" * 1000):
        process._note(warning)
    assert said.getvalue().splitlines() == [
        "first reason; the run goes on without it, and it is tried again",
        "careful",
        "x" * 300,
    ]
