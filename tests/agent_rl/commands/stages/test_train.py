"""`train` with real parts is killed, sent a signal with all its processes, and resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent_rl.runs.layout import RunLayout
from tests.builders.paths import ROOT
from tests.builders.runs import logged_steps

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]
CONFIG = """
run_folder: run
env: {id: guess-the-number}
model: {vocab_size: 400, hidden_size: 64, layers: 1, heads: 2, kv_heads: 2, corpus_tasks: 4}
episode: {max_turns: 4, max_action_tokens: 8}
workers: {count: 1, envs_per_worker: 4}
serving: {kv_cache_gib: 0.1, max_concurrent: 8}
learner: {learning_rate: 1.0e-3, threads: 1}
train: {rollout_steps: 9999, tasks_per_step: 2, num_generations: 4, checkpoint_every: 0}
"""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "agent_rl.cli", arguments[0], "c.yaml", *arguments[1:]]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def test_a_learner_that_dies_is_replaced_and_the_steps_are_repeated(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    stage = RunLayout(tmp_path / "run").train
    assert end(start(tmp_path, "init"))[0] == 0
    run = start(tmp_path, "train", "train.rollout_steps=9", "train.checkpoint_every=3")
    # Before the first checkpoint, and after it: each time a process that was not there before.
    victims = []
    for steps in (1, 4):
        wait_for(run, lambda steps=steps: len(logged_steps(stage)) >= steps)  # type: ignore[misc]
        (learner,) = [
            child
            for child in psutil.Process(run.pid).children(recursive=True)
            if "LearnerRank" in " ".join(child.cmdline()) and child.pid not in victims
        ]
        victims.append(learner.pid)
        learner.kill()
        wait_for(run, lambda: len(logged_steps(stage)) < 2 or len(victims) == 2)
    status, output = end(run)
    assert status == 0, output
    assert output.count("the learner is replaced, and training goes on") == 2
    assert "ended early" not in output
    assert (tmp_path / "run" / "train.interrupted-1").is_dir()
    assert "resumed from run/train/checkpoints/step-000003" in output
    assert logged_steps(stage) == list(range(1, 10))
    assert "Traceback" not in output


def test_one_command_starts_and_resumes_a_run_in_every_state(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    stage = RunLayout(tmp_path / "run").train
    assert end(start(tmp_path, "init"))[0] == 0
    # Nothing is there; it is killed before its first checkpoint.
    killed = start(tmp_path, "train", "--resume")
    wait_for(killed, lambda: len(logged_steps(stage)) >= 1)
    status, output = end(start(tmp_path, "train"))
    assert (status, "in use" in output) == (2, True), output
    killed.kill()
    assert end(killed)[0] == -signal.SIGKILL
    # Metrics without a checkpoint; the scheduler ends it, with all its processes.
    stopped = start(tmp_path, "train", "--resume")
    wait_for(stopped, lambda: (tmp_path / "run" / "train.interrupted-1").is_dir())
    wait_for(stopped, lambda: len(logged_steps(stage)) >= 2)
    os.killpg(stopped.pid, signal.SIGTERM)
    status, output = end(stopped)
    assert status == 128 + signal.SIGTERM, output
    assert output.splitlines()[-1].startswith("stopped by SIGTERM: saved is run/train/checkpoints/")
    assert "Traceback" not in output
    (checkpoint,) = stage.whole_checkpoints()
    steps = logged_steps(stage)
    assert steps == list(range(1, stage.last_step() + 1))
    # A checkpoint.
    more = f"train.rollout_steps={stage.last_step() + 1}"
    status, output = end(start(tmp_path, "train", "--resume", more))
    assert status == 0, output
    assert f"resumed from run/train/checkpoints/{checkpoint.name}" in output
    assert logged_steps(stage) == [*steps, len(steps) + 1]
