"""`train` with real parts is broken in every way, goes on, and is the run that nobody broke.

The tests share a run folder, and each goes on where the one before was ended. Every episode depends
on its seed only (`serving.deterministic`), so the numbers are to be the same.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.builders.drilled_runs import (
    ENGINE,
    LEARNER,
    WORKER,
    Drill,
    assert_parity,
    generates,
    in_update,
    is_writing_checkpoint,
)
from tests.builders.drills import record, signal_in

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1500)]
CONFIG = """
run_folder: run
env: {{id: guess-the-number}}
model: {model}
episode: {{max_turns: 6, max_action_tokens: 12, invalid_action_penalty: 0.05}}
workers: {{count: 1, envs_per_worker: 8}}
serving: {{deterministic: true, kv_cache_gib: 0.25, max_concurrent: 16}}
sft: {{episodes: 60, observation_epochs: 1, epochs: 2, batch_episodes: 4, learning_rate: 3.0e-3}}
learner:
  optimizer_steps: 8
  micro_batch_tokens: 64
  learning_rate: 1.0e-3
  threads: 1
  share_prefixes: false
  timeout_seconds: 60
train: {{rollout_steps: 9999, tasks_per_step: 4, num_generations: 4, checkpoint_every: 3}}
"""
FROM_SCRATCH = (
    "{vocab_size: 400, hidden_size: 64, intermediate_size: 128, layers: 2, heads: 2, kv_heads: 2, "
    "context_length: 512, corpus_tasks: 4}"
)
ROWS: list[dict[str, Any]] = []
"""The rows of all drills here, until the last one has compared the run."""
REPLACED = "the learner is replaced, and training goes on: "
LIMIT_SECONDS = 60.0
"""`learner.timeout_seconds`: longer than its start takes."""
STOP_SECONDS = 60.0
"""The longest time from a signal or a death to the end of the command."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """It starts from a policy that wins some episodes and loses others, so it can learn."""
    with Drill(tmp_path_factory.mktemp("start"), CONFIG.format(model=FROM_SCRATCH)) as drill:
        drill.do("init")
        drill.do("sft")
        return CONFIG.format(model=f"{{path: {drill.run.sft.model}}}")


@pytest.fixture(scope="module")
def drill(config: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """The run that is broken again and again."""
    with Drill(tmp_path_factory.mktemp("broken"), config) as drill:
        yield drill


def start(drill: Drill) -> None:
    """Start or resume the run, and wait for one more step than the newest checkpoint has."""
    newest = newest_step(drill)
    drill.start("train", "--resume")
    # First it removes the metrics of later steps, which will be repeated.
    drill.wait_for(lambda: not drill.steps or drill.steps[-1] <= newest, "the start")
    drill.wait_for_steps(newest + 1)


def newest_step(drill: Drill) -> int:
    """The step of the newest whole checkpoint; 0 if there is none."""
    whole = drill.stage.whole_checkpoints()
    return int(whole[-1].name.removeprefix("step-")) if whole else 0


def wait_for_checkpoint(drill: Drill) -> None:
    """Wait for one that is newer than all there are."""
    newest = newest_step(drill)
    drill.wait_for(lambda: newest_step(drill) > newest, "a checkpoint")


def while_playing(drill: Drill, do: Callable[[], None]) -> float:
    """Do something while the engine generates, and so all else waits; returns the time."""
    engine = drill.one(ENGINE)
    return signal_in(engine, generates(engine, drill.one(LEARNER)), signal.SIGCONT, then=do)


def note(at: float, **row: str) -> None:
    """Keep a row of the table until the parity is known; the fault was at a time (monotonic)."""
    ROWS.append({**row, "seconds": time.monotonic() - at})


def stopped(drill: Drill) -> str:
    """Wait for the end after SIGTERM; returns the last line."""
    status, output = drill.end(STOP_SECONDS)
    assert status == 128 + signal.SIGTERM, output
    assert "Traceback" not in output
    drill.assert_nothing_left()
    return output.splitlines()[-1]


def saved_step(line: str) -> int:
    """The step of the checkpoint that the line names."""
    found = re.search(r"saved is run/train/checkpoints/step-(\d+); `agent-rl train CON", line)
    assert found, line
    return int(found[1])


def test_without_a_checkpoint_a_run_starts_again(drill: Drill) -> None:
    start(drill)
    at = while_playing(drill, drill.one(LEARNER).kill)
    drill.wait_for(lambda: REPLACED in drill.output, "the news", STOP_SECONDS)
    drill.wait_for(drill.run.folder.joinpath("train.interrupted-1").is_dir, "a new start")
    drill.wait_for_steps(1)
    note(
        at,
        fault="SIGKILL of the learner",
        state="idle, as episodes play; no checkpoint yet",
        outcome="replaced, the run starts again",
        lost="the steps so far, repeated",
    )

    driver = psutil.Process(drill.driver.pid)
    at = signal_in(driver, lambda: is_writing_checkpoint(drill), signal.SIGKILL)
    assert drill.end(10.0)[0] == -signal.SIGKILL
    drill.assert_nothing_left(memory=False)
    assert is_writing_checkpoint(drill), "the state was missed"
    assert newest_step(drill) == 0
    note(
        at,
        fault="SIGKILL of the driver",
        state="writing a checkpoint",
        outcome="all its processes end; --resume goes on from the checkpoint before, or starts",
        lost="steps since the checkpoint, repeated",
    )


def test_a_signal_to_the_group_in_an_update_saves_its_step(drill: Drill) -> None:
    start(drill)
    learner = drill.one(LEARNER)
    before = drill.steps[-1]
    at = signal_in(learner, in_update(learner), signal.SIGCONT)
    os.killpg(drill.driver.pid, signal.SIGTERM)
    # The update ends first, and its step counts.
    assert saved_step(stopped(drill)) == newest_step(drill) == drill.steps[-1] > before
    note(
        at,
        fault="SIGTERM to the driver's group",
        state="update",
        outcome="the step ends, checkpoint, clear stop",
        lost="nothing",
    )


@pytest.mark.parametrize("part", ["gcs_server", "raylet"])
def test_one_of_rays_own_processes_is_killed(part: str, drill: Drill) -> None:
    start(drill)
    (victim,) = [process for process in drill.processes(f"/{part}") if process.name() == part]
    at = while_playing(drill, victim.kill)
    status, output = drill.end(STOP_SECONDS)
    assert (status, "Traceback" in output) == (2, False), output
    assert f"error: Ray's own process {part} ended (SIGKILL)" in output
    stop = next(line for line in output.splitlines() if line.startswith("ended early: "))
    assert saved_step(stop) == newest_step(drill)
    # Without the head, the learner still answers. The raylet takes it along.
    if part == "gcs_server":
        assert newest_step(drill) == drill.steps[-1]
    drill.assert_nothing_left()
    note(
        at,
        fault=f"SIGKILL of Ray's {part}",
        state="episodes play",
        outcome="clear stop, which names the checkpoint",
        lost="episodes in flight" if part == "gcs_server" else "steps since the checkpoint",
    )


def test_one_run_goes_on_whichever_process_is_broken(drill: Drill, config: str) -> None:
    """The last one: all of the run is compared with the unbroken one."""
    start(drill)
    kill_a_worker(drill)
    kill_the_engine(drill)
    kill_the_learner(drill, "update", in_update(drill.one(LEARNER)))
    kill_the_learner(drill, "writing a checkpoint", lambda: is_writing_checkpoint(drill))
    stop_the_learner(drill)
    terminate_every_process(drill)
    with Drill(drill.folder.with_name("unbroken"), config) as unbroken:
        unbroken.do("train", f"train.rollout_steps={newest_step(drill)}")
        unbroken.assert_nothing_left()
        assert_parity(drill, unbroken)
    for row in ROWS:
        record(**row, parity="same numbers")


def kill_a_worker(drill: Drill) -> None:
    worker, step = drill.one(WORKER), drill.steps[-1]
    at = while_playing(drill, worker.kill)
    drill.one(WORKER, but=[worker.pid])
    drill.wait_for_steps(step + 1)
    note(
        at,
        fault="SIGKILL of a worker",
        state="its episodes wait for the engine",
        outcome="replaced, its episodes played again",
        lost="nothing",
    )


def kill_the_engine(drill: Drill) -> None:
    engine, step = drill.one(ENGINE), drill.steps[-1]
    at = while_playing(drill, engine.kill)
    drill.one(ENGINE, but=[engine.pid])
    drill.wait_for_steps(step + 1)
    note(
        at,
        fault="SIGKILL of the engine",
        state="generating",
        outcome="replaced, its requests sent again",
        lost="half completions",
    )


def kill_the_learner(drill: Drill, state: str, in_state: Callable[[], bool]) -> None:
    learner, news = drill.one(LEARNER), drill.output.count(REPLACED)
    at = signal_in(learner, in_state, signal.SIGKILL)
    drill.wait_for(lambda: drill.output.count(REPLACED) > news, "the news", 30.0)
    assert "ended early" not in drill.output
    drill.one(LEARNER, but=[learner.pid])
    wait_for_checkpoint(drill)
    note(
        at,
        fault="SIGKILL of the learner",
        state=state,
        outcome="replaced, goes on from the newest checkpoint",
        lost="steps since the checkpoint, repeated",
    )


def stop_the_learner(drill: Drill) -> None:
    learner, news = drill.one(LEARNER), drill.output.count(REPLACED)
    at = signal_in(learner, in_update(learner), signal.SIGSTOP)
    start_a_second_run(drill)
    drill.wait_for(
        lambda: drill.output.count(REPLACED) > news, "the news", LIMIT_SECONDS + STOP_SECONDS
    )
    # The call that hangs began before the signal, by at most an update of this small model.
    assert time.monotonic() - at >= LIMIT_SECONDS - 5
    assert "the learner did not answer within 60 s (learner.timeout_seconds)" in drill.output
    drill.one(LEARNER, but=[learner.pid])
    assert not learner.is_running(), "the process that hangs is still there"
    wait_for_checkpoint(drill)
    note(
        at,
        fault="SIGSTOP of the learner",
        state="update",
        outcome="replaced after learner.timeout_seconds (here 60)",
        lost="steps since the checkpoint, repeated",
    )


def start_a_second_run(drill: Drill) -> None:
    at = time.monotonic()
    status, output = drill.beside("train")
    assert (status, "in use" in output) == (2, True), output
    note(
        at,
        fault="a second run in the same folder",
        state="a run trains there",
        outcome="refused; the first goes on",
        lost="nothing",
    )


def terminate_every_process(drill: Drill) -> None:
    learner = drill.one(LEARNER)

    def everyone() -> None:
        for process in drill.processes():
            process.terminate()

    at = signal_in(learner, in_update(learner), signal.SIGTERM, then=everyone)
    # The learner is gone with its last step, so the line names the checkpoint before.
    assert saved_step(stopped(drill)) == newest_step(drill)
    note(
        at,
        fault="SIGTERM to every process",
        state="update",
        outcome="clear stop, which names the checkpoint",
        lost="steps since the checkpoint",
    )
