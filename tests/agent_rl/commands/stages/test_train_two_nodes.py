"""`train` over two nodes that share nothing but code and network; the second is lost in between."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_rl.runs.layout import RunLayout, StageLayout, step_name
from tests.builders.drills import record
from tests.builders.paths import ROOT
from tests.builders.ray_nodes import Node, environment, head, second_node, unshare_is_missing
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


def start(folder: Path, *arguments: str, on: Node | None = None) -> "subprocess.Popen[str]":
    """Start a command, on this node or on a second one."""
    command = [sys.executable, "-m", "agent_rl.cli", arguments[0], "c.yaml", *arguments[1:]]
    return subprocess.Popen(
        command if on is None else on.command(folder, *command),
        cwd=ROOT if on is not None else folder,
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
            there_at = time.monotonic()
            wait_for(run, lambda: len(logged_steps(stage)) > before)
            seconds = time.monotonic() - there_at
            wait_for(run, lambda: len(logged_steps(stage)) >= before + 3)
            stop(run, stage)
    record(
        fault="a node is lost",
        state="all engines and workers play there; seconds from the start of a new node",
        outcome="they start on the new node, and training goes on",
        seconds=seconds,
        lost="nothing",
        parity="each step once",
    )


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
            lost_at = time.monotonic()
        before = len(logged_steps(stage))
        # Two more, as the first may have played before.
        wait_for(run, lambda: len(logged_steps(stage)) >= before + 2)
        seconds = time.monotonic() - lost_at
        wait_for(run, lambda: len(logged_steps(stage)) >= before + 5)
        stop(run, stage)
    record(
        fault="a node is lost",
        state="one of two engines and one of two workers play there",
        outcome="the others play their episodes, and training goes on",
        seconds=seconds,
        lost="nothing",
        parity="each step once",
    )


def test_a_run_saves_its_last_step_when_the_head_is_lost() -> None:
    if missing := unshare_is_missing():
        pytest.skip(f"no second node here: {missing}")
    # All of the run is on the second node.
    with (
        head(cpus=0, token=TOKEN) as first,
        second_node(first.address, cpus=3, token=TOKEN) as second,
    ):
        there = Path("/tmp/trains")
        here = second.root / there.relative_to("/")
        here.mkdir()
        (here / "c.yaml").write_text(CONFIG)
        made = start(there, "init", on=second)
        output, _ = made.communicate(timeout=300)
        assert made.returncode == 0, output
        stage = RunLayout(here / "run").train
        run = start(there, "train", "--ray-address", first.address, on=second)
        wait_for(run, lambda: len(logged_steps(stage)) >= 3)
        first.kill()
        lost_at = time.monotonic()
        output, _ = run.communicate(timeout=60)
        seconds = time.monotonic() - lost_at
        assert run.returncode == 2, output
        assert "the head of Ray's cluster is gone, so no other process can go on" in output
        assert "Traceback" not in output
        steps = logged_steps(stage)
        assert steps == list(range(1, len(steps) + 1))
        assert [path.name for path in stage.whole_checkpoints()] == [step_name(len(steps))]
    record(
        fault="the head of Ray's cluster is lost",
        state="all of the run is on another node",
        outcome="it stops, as the head does not come back within 30 s",
        seconds=seconds,
        lost="nothing: the last whole step is saved",
        parity="each step once",
    )
