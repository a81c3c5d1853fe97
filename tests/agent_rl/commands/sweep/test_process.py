"""The process of a job: what it checks before it starts, and a real sweep that is killed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from agent_rl.commands.sweep.process import refuse_another_start
from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.report import read_report
from agent_rl.policy.fingerprint import fingerprint
from agent_rl.runs.layout import RunLayout
from tests.builders.paths import ROOT
from tests.builders.runs import report
from tests.builders.sweeps import wait_for


def test_a_run_begins_with_the_weights_that_were_evaluated_as_the_start(tmp_path: Path) -> None:
    policy, evaluation = tmp_path / "policy", tmp_path / "sweep/start/evaluations/final.json"
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    (policy / "tokenizer.json").write_text("{}")
    save_file({"weight": torch.zeros(1)}, policy / "model.safetensors")
    weights = fingerprint(str(policy)).weights
    report(weights=weights).write(evaluation)
    config = Config.model_validate(
        {"run_folder": str(tmp_path / "sweep/gmpo-s0"), "model": {"path": str(policy)}}
    )
    refuse_another_start(config)
    save_file({"weight": torch.ones(1)}, policy / "model.safetensors")
    with pytest.raises(
        ConfigError, match=rf"model {policy}: its weights \(\w+\) are not those that were evaluated"
    ):
        refuse_another_start(config)


REAL = """
run_folder: sweep
env: {id: guess-the-number}
model: {vocab_size: 400, hidden_size: 64, layers: 1, heads: 2, kv_heads: 2, corpus_tasks: 4}
episode: {max_turns: 4, max_action_tokens: 8}
workers: {count: 1, envs_per_worker: 8}
serving: {kv_cache_gib: 0.1, max_concurrent: 8}
sft: {episodes: 8, epochs: 1, batch_episodes: 4}
learner: {optimizer_steps: 2, learning_rate: 1.0e-3, threads: 1}
train: {rollout_steps: 8, tasks_per_step: 2, num_generations: 4, checkpoint_every: 1, eval_every: 4}
evaluation: {split: valid, tasks: 4}
"""


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_a_real_sweep_that_is_killed_in_its_second_run_goes_on_there(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(REAL)
    first, second = tmp_path / "sweep/gmpo-s0", tmp_path / "sweep/grpo-s0"
    process = real_sweep(tmp_path)
    try:
        wait_for(lambda: process.poll() is not None or RunLayout(second).train.last_step() > 0, 600)
    finally:
        process.kill()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, printed
    before = {
        path: path.read_bytes()
        for path in (first / "evaluations/final.json", first / "attempts.jsonl")
    }
    metrics = (second / "train/metrics.jsonl").read_text().splitlines()
    process = real_sweep(tmp_path)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    assert "gmpo-s0: done before" in printed
    assert {path: path.read_bytes() for path in before} == before
    resumed = re.search(r"resumed from sweep/grpo-s0/train/checkpoints/step-(\d+)", printed)
    assert resumed, printed
    (ended,) = map(json.loads, (second / "attempts.jsonl").read_text().splitlines())
    assert (ended["stage"], ended["steps"], ended["exit"]) == ("resume", 8 - int(resumed[1]), 0)
    after = (second / "train/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in after] == list(range(1, 9))
    assert after[0] == metrics[0]
    assert len((tmp_path / "sweep/start/attempts.jsonl").read_text().splitlines()) == 1
    games = []
    for folder in (first, second, tmp_path / "sweep/start"):
        final = read_report(RunLayout(folder).final_report)
        games.append([game.id for game in final.splits["valid"].games])
    assert games[0] == games[1] == games[2]
    # The last rollout step is evaluated once: its evaluation is the final one.
    for folder in (first, second):
        in_training = list(RunLayout(folder).train.evaluations.iterdir())
        assert [file.name for file in in_training] == ["step-000004.json"]
    compared = json.loads((tmp_path / "sweep/comparison.json").read_text())
    assert not [
        note for note in compared["notes"] if "this evaluation of its policy counts" in note
    ]
    assert [variant["label"] for variant in compared["variants"]] == ["gmpo", "grpo"]


def real_sweep(folder: Path) -> subprocess.Popen[str]:
    arguments = ["sweep", "c.yaml", "--objectives", "gmpo,grpo", "--seeds", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "agent_rl.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
