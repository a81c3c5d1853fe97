"""A tiny policy for learner processes, and the weights that they write."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.config.model import LoraSettings
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.from_scratch import train_tokenizer
from agent_rl.policy.lora import with_lora
from tests.builders.tiny_learner import make_tiny_model

Named = dict[str, Tensor]
CONTEXT = LearnerContext(total_steps=10)


def load_tiny(lora: LoraSettings | None = None, **options: Any) -> tuple[Any, Any]:
    """The tiny model and a tokenizer for it, in the process that calls this."""
    model: Any = make_tiny_model(**{"dtype": torch.float32, "vocab_size": 260, **options})
    if lora is not None:
        model = with_lora(model, lora, source="nowhere")
    return model, train_tokenizer(["a room"], 260)


def weights_in(folder: Path) -> Named:
    return load_file(folder / "model.safetensors")


def written(learner: LearnerProcesses, folder: Path) -> Named:
    """The weights that the learner saves as a model."""
    shutil.rmtree(folder, ignore_errors=True)
    learner.save_model(folder)
    return weights_in(folder)


def assert_equal(got: Named, expected: Named, most: float = 0.0) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        assert tensor.dtype == expected[name].dtype, name
        assert float((tensor - expected[name]).abs().max()) <= most, name


def settings_of(ranks: int, micro_batch_tokens: int, **values: object) -> LearnerSettings:
    return LearnerSettings.model_validate(
        {
            "device": "cpu",
            "learning_rate": 1e-3,
            "optimizer_steps": 2,
            "ranks": ranks,
            "micro_batch_tokens": micro_batch_tokens,
            "threads": 1,
            **values,
        }
    )
