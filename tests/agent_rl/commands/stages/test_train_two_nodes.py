"""`train` over two nodes that share nothing but code and network; the second is lost in between."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_rl.runs.layout import RunLayout, StageLayout
from tests.builders.ray_nodes import environment, head, second_node, unshare_is_missing
from tests.builders.runs import logged_steps

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]
TOKEN = "0123456789abcdef" * 4
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
    return subprocess.Popen(
        [sys.executable, "-m", "agent_rl.cli", arguments[0], "c.yaml", *arguments[1:]],
        cwd=folder,
        env=environment(TOKEN, COLUMNS="200"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.fixture
def stage(tmp_path: Path) -> StageLayout:
    """The stage of a run in this folder that can begin."""
    if missing := unshare_is_missing():
        pytest.skip(f"no second node here: {missing}")
    (tmp_path / "c.yaml").write_text(CONFIG)
    made = start(tmp_path, "init")
    output, _ = made.communicate(timeout=300)
    assert made.returncode == 0, output
    return RunLayout(tmp_path / "run").train


def stop(run: "subprocess.Popen[str]", stage: StageLayout) -> None:
    """Stop a run that never ends; each of its steps must have been done once."""
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 128 + signal.SIGTERM, output
    assert "the learner is replaced" not in output
    assert "Traceback" not in output
    assert logged_steps(stage) == list(range(1, stage.last_step() + 1))


def test_a_run_goes_on_when_all_engines_and_workers_are_lost(
    tmp_path: Path, stage: StageLayout
) -> None:
    # The head has room for the learner only.
    with head(cpus=1, token=TOKEN) as first:
        with second_node(first.address, cpus=2, token=TOKEN) as second:
            run = start(tmp_path, "train", "--ray-address", first.address)
            wait_for(run, lambda: len(logged_steps(stage)) >= 3)
            second.kill()
        before = len(logged_steps(stage))
        with second_node(first.address, cpus=2, token=TOKEN):
            wait_for(run, lambda: len(logged_steps(stage)) >= before + 3)
            stop(run, stage)


def test_a_run_goes_on_with_the_engine_and_the_worker_that_are_left(
    tmp_path: Path, stage: StageLayout
) -> None:
    # The learner, an engine and a worker fit on the head, and another two on the second node.
    settings = ("serving.replicas=2", "serving.threads=2", "workers.count=2")
    with head(cpus=4, token=TOKEN) as first:
        with second_node(first.address, cpus=3, token=TOKEN) as second:
            run = start(tmp_path, "train", *settings, "--ray-address", first.address)
            wait_for(run, lambda: len(logged_steps(stage)) >= 3)
            second.kill()
        before = len(logged_steps(stage))
        wait_for(run, lambda: len(logged_steps(stage)) >= before + 3)
        stop(run, stage)
