"""Runs to export from: tiny policies, evaluations with known numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.config.model import ModelSettings
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.scores import RepeatScore, Score, SplitReport
from agent_rl.policy.from_scratch import train_tokenizer

TOKENIZER = train_tokenizer(["You see a drawer 1."], 300)
SIZES = ModelSettings(
    hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=48, context_length=64
)
IDS = torch.tensor([[5, 3, 8, 270, 30, 2]])
CONFIG = """
run_folder: {folder}
model:
  {{hidden_size: 64, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 48, context_length: 64}}
env: {{id: guess-the-number, options: {{low: 1, high: 9}}}}
prompt: {{system: 'Say a number | "quickly".'}}
train: {{rollout_steps: 60}}
"""
Exports = Callable[..., str]
"""Runs `agent-rl export` with arguments; returns its error, if any."""


def report(successes: int, *splits: str) -> dict[str, Any]:
    """The record of a report on 4 games of which `successes` were won, on each split."""
    interval = (0.1, 0.8 + successes / 100)
    repeat = RepeatScore(n=4, successes=successes, success=successes / 4, interval=interval)
    score = Score(
        n=4,
        repeats=1,
        successes=successes,
        success=successes / 4,
        interval=interval,
        per_repeat=(repeat,),
        mean_turns=3.0,
        turns_to_success=None,
        invalid_action_rate=0.0,
        tokens_per_episode=9.0,
        agent_tokens_per_episode=6.0,
    )
    part = SplitReport(
        overall=score, families={"small": score}, games=(), stop_reasons={}, failures={"timeout": 1}
    )
    return EvaluationReport(
        setting={"temperature": 0.4}, splits=dict.fromkeys(splits or ("valid",), part), gap=None
    ).record()


def write(path: Path, value: Any) -> None:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    """The logits of a policy for `IDS`."""
    result: Tensor = model(input_ids=IDS).logits
    return result
