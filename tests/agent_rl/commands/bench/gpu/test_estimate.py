import json
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.bench.gpu.estimate import Estimate, described, time_table, verdict
from agent_rl.commands.bench.gpu.gpus import GPUS
from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.memory import CONTEXT, GIB
from agent_rl.commands.bench.gpu.shapes import PUBLISHED, shape_of
from agent_rl.config import Config, load_config
from tests.builders.command_line import CommandLine
from tests.builders.paths import ROOT

CONFIG = ROOT / "configs/qwen2.5-1.5b.yaml"
QWEN = shape_of(PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"])
LOAD = StepLoad(episodes=128, turns=15, observation_tokens=270, action_tokens=100)


def estimate(*overrides: str, gpu: str = "h100", load: StepLoad = LOAD) -> Estimate:
    return Estimate.of(load_config(CONFIG, list(overrides)), QWEN, load, GPUS[gpu])


def test_one_gpu_holds_learner_and_engine() -> None:
    found = estimate()
    assert found.reserved == 0.4 * 80 * GIB
    assert found.learner_gpu == found.learner.peak + found.reserved + 2 * CONTEXT
    assert found.fits
    assert verdict(found) == f"fits: {80 - found.learner_gpu / GIB:.1f} GiB are left"


def test_an_engine_that_sleeps_takes_turns() -> None:
    found = estimate("serving.sleep=true", "serving.gpu_memory_utilization=0.6")
    playing = found.learner.between_updates + found.reserved
    assert playing > found.learner.peak
    assert found.learner_gpu == playing + 2 * CONTEXT


def test_a_learner_on_a_gpu_of_its_own() -> None:
    found = estimate("serving.replicas=2")
    assert found.learner_gpu == found.learner.peak + CONTEXT


def test_what_does_not_fit() -> None:
    small = estimate(gpu="rtx4090")
    missing = (small.learner_gpu - 24 * GIB) / GIB
    assert not small.fits
    assert verdict(small).startswith(f"does not fit: {missing:.1f} GiB are missing; lower learner.")
    tight = estimate("serving.gpu_memory_utilization=0.1")
    # 8 GiB less 2 of room and the weights, over 5,550 tokens of 28 KiB.
    room = (8 - 2) * GIB - tight.engine.weights
    requests = int(room / (5550 * 28 * 1024))
    assert verdict(tight).startswith(f"fits, but the engine has room for {requests} requests")


def test_the_parts_sum_up() -> None:
    found = estimate()
    assert found.seconds == pytest.approx(sum(part.seconds for part in found.parts))
    columns = time_table(found, 0.5).columns
    *_, whole = (float(str(cell)) for cell in columns[3].cells)
    *_, reached = (float(str(cell)) for cell in columns[4].cells)
    assert whole == pytest.approx(found.seconds, abs=0.01)
    assert reached == pytest.approx(2 * found.seconds, abs=0.06)


def test_a_window_is_described() -> None:
    config = load_config(CONFIG, ["prompt.history=window"])
    load = StepLoad.of(config, QWEN.context, turns=15, observation_tokens=270, action_tokens=100)
    found = Estimate.of(config, QWEN, load, GPUS["h100"])
    assert "(1,920 samples, a prompt for each turn)" in described(config, QWEN, found)


@pytest.mark.parametrize("name", ["demo", "alfworld", "smollm2", "verl-agent-alfworld"])
def test_the_command_on_each_kind_of_config(
    name: str, tmp_path: Path, command_line: CommandLine
) -> None:
    record: Any = tmp_path / "estimate.json"
    config = ROOT / f"configs/{name}.yaml"
    ended = command_line("bench", "gpu", "--estimate", config, "--json", record)
    assert ended.status == 0, ended.err
    assert "learner at its peak" in ended.out
    written = json.loads(record.read_text())
    checked: Config = load_config(config, [])
    assert written["load"]["turns"] <= checked.episode.max_turns
    assert written["seconds"] > 0.0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--estimate", CONFIG, "--gpu", "h10"), "--gpu 'h10': is not in the table; did you mean"),
        (("--estimate", CONFIG, "model.pth=x"), "model.pth"),
        (("--turns", 3), "go with --estimate CONFIG"),
        (("--estimate", CONFIG, "model.path=./none"), "model none: no such file or folder"),
    ],
)
def test_what_the_command_refuses(
    arguments: tuple[object, ...], error: str, command_line: CommandLine
) -> None:
    ended = command_line("bench", "gpu", *arguments)
    assert ended.status == 2
    assert error in ended.err
