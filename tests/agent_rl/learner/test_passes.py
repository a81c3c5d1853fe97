import dataclasses
import math
from pathlib import Path

import pytest
import torch

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from tests.builders.tiny_learner import (
    MakeModel,
    MakeSamples,
    learner_of,
    weights_of,
)


def test_a_loss_that_is_not_finite_stops_before_the_weights_move(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model, samples = tiny_model(), random_samples(4)
    i = samples[0].action_mask.index(True)
    broken = list(samples[0].behavior_logprobs)
    broken[i] = -math.inf
    samples[0] = dataclasses.replace(
        samples[0], behavior_logprobs=tuple(broken), advantages=(-1.0,) * samples[0].turns
    )
    before = weights_of(model)
    with pytest.raises(FloatingPointError, match="loss of optimizer step 1 is inf"):
        learner_of(model, old_logprobs="sampler", optimizer_steps=1).update(samples)
    assert torch.equal(weights_of(model), before)


def test_the_batch_whose_loss_is_not_finite_is_kept(
    tmp_path: Path, tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    sample = random_samples(1)[0]
    infinite = tuple(-math.inf if bit else 0.0 for bit in sample.action_mask)
    sample = dataclasses.replace(
        sample, behavior_logprobs=infinite, advantages=(-1.0,) * sample.turns
    )
    settings = LearnerSettings(device="cpu", old_logprobs="sampler", optimizer_steps=1)
    learner = Learner(
        tiny_model(), settings, LearnerContext(total_steps=1, failure_folder=tmp_path)
    )
    with pytest.raises(
        FloatingPointError, match=r"the batch is in .*optimizer-step-000001-rank-0.pt"
    ):
        learner.update([sample])
    kept = torch.load(tmp_path / "optimizer-step-000001-rank-0.pt", weights_only=True)
    assert kept["input_ids_T"].tolist() == list(sample.token_ids[:-1])
    assert kept["branches"] == [(0, len(sample.token_ids) - 1, ())]


def test_idle_passes_add_a_gradient_of_zero(tiny_model: MakeModel) -> None:
    learner = learner_of(tiny_model())
    learner._passes.idle(2, gradient=True)
    gradients = [p.grad for p in learner.model.parameters() if p.grad is not None]
    assert gradients
    assert all(not gradient.any() for gradient in gradients)


def test_idle_passes_without_a_gradient_leave_none(tiny_model: MakeModel) -> None:
    learner = learner_of(tiny_model())
    learner._passes.idle(2, gradient=False)
    assert all(p.grad is None for p in learner.model.parameters())
