"""Drills on whole runs: file systems that are full, for the served weights and for the run."""

import time
from pathlib import Path

import pytest

from tests.builders.drilled_runs import Drill, fill, seen_by, small_disks
from tests.builders.drills import record

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]
CONFIG = """
run_folder: run
env: {id: guess-the-number}
model: {vocab_size: 400, hidden_size: 64, layers: 1, heads: 2, kv_heads: 2, corpus_tasks: 4}
episode: {max_turns: 4, max_action_tokens: 8}
workers: {count: 1, envs_per_worker: 4}
serving: {kv_cache_gib: 0.1, max_concurrent: 8}
learner: {learning_rate: 1.0e-3, threads: 1}
train: {rollout_steps: 9999, tasks_per_step: 2, num_generations: 4, checkpoint_every: 4}
"""
MEMORY = Path("/dev/shm")
LEFT_BYTES = 256 * 2**10
"""Enough for metrics and episodes of some steps, and too little for a checkpoint."""


def test_full_file_systems(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    with (
        small_disks({run_folder: 64, MEMORY: 192}, working=tmp_path) as within,
        Drill(tmp_path, CONFIG) as drill,
    ):
        there, memory = seen_by(within, run_folder), seen_by(within, MEMORY)
        drill.look_at(there)
        drill.start("init", within=within)
        assert drill.end(120.0)[0] == 0, drill.output
        drill.start("train", within=within)
        drill.wait_for_steps(1)

        at = time.monotonic()

        # Again and again: if it is filled while two versions are there, the next one finds room.
        def is_full_and_told() -> bool:
            fill(memory)
            return "/dev/shm is full: the served weights go to" in drill.output

        drill.wait_for(is_full_and_told, "the news")
        drill.wait_for_steps(drill.steps[-1] + 2)
        record(
            fault="/dev/shm is full",
            state="weights for the engine are written",
            outcome="goes on in the temporary folder, and says so",
            seconds=time.monotonic() - at,
            lost="nothing",
            parity="not compared",
        )
        fill(memory).unlink()

        drill.wait_for(lambda: len(drill.stage.whole_checkpoints()) > 0, "a checkpoint")
        at = time.monotonic()
        filler = fill(there, leave=LEFT_BYTES)
        status, output = drill.end(120.0)
        assert (status, "Traceback" in output) == (2, False), output
        assert "No space left on device" in output
        assert "`agent-rl train CONFIG --resume` goes on from it" in output
        newest = drill.stage.whole_checkpoints()[-1]
        assert f"saved is run/train/checkpoints/{newest.name};" in output
        record(
            fault="the disk is full",
            state="writing a checkpoint",
            outcome="clear stop, which names the checkpoint before",
            seconds=time.monotonic() - at,
            lost="steps since the checkpoint",
            parity="not compared",
        )
        drill.assert_nothing_left()

        filler.unlink()
        last = int(newest.name.removeprefix("step-")) + 2
        drill.start("train", "--resume", f"train.rollout_steps={last}", within=within)
        assert drill.end(300.0)[0] == 0, drill.output
        assert drill.steps == list(range(1, last + 1))
        drill.assert_nothing_left()
