"""`agent-rl bench gpu --shape tiny`, whole, on a CPU."""

import json
from pathlib import Path

import pytest
import torch

from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.run import load_of
from rollouts.types import StopReason
from tests.builders.command_line import CommandLine
from tests.builders.episodes import group, trajectory, turn


def test_the_load_of_episodes_by_hand() -> None:
    long = trajectory(*(turn(prompt=(1,) * 5, ids=(3, 4, 2)) for _ in range(3)))
    short = trajectory(turn(prompt=(1,) * 9, ids=(3,) * 7))
    failed = trajectory(stop_reason=StopReason.ENV_ERROR, error="e")
    # Four turns of 24 and 16 tokens; an episode without a turn does not count.
    assert load_of([group(long, short, failed)]) == StepLoad(
        episodes=2, turns=2, observation_tokens=6, action_tokens=4
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_large_shape_needs_a_gpu(command_line: CommandLine) -> None:
    ended = command_line("bench", "gpu")
    assert ended.status == 2
    assert "error: torch sees no GPU here; `agent-rl bench gpu --shape tiny` runs" in ended.err


@pytest.mark.slow
@pytest.mark.engine
def test_all_checks_on_a_cpu(tmp_path: Path, command_line: CommandLine) -> None:
    record = tmp_path / "gpu.json"
    ended = command_line("bench", "gpu", "--shape", "tiny", "--json", record)
    assert ended.status == 0, ended.err + ended.out
    assert "no GPU: a CPU, whose kernels are others" in ended.out
    written = json.loads(record.read_text())
    assert all(check["ok"] for check in written["checks"])
    assert len(written["checks"]) == 4 + 3 + 3
    # Random actions are never an end, so each has all of its tokens.
    load = StepLoad(**written["load"])
    assert (load.episodes, load.turns, load.action_tokens) == (12, 4, 16)
    assert set(written["seconds"]) == {"rollout", "learner", "sync of the weights"}
    assert [row["mean_error"] == 0.0 for row in written["heads"]] == [True, False, False]
