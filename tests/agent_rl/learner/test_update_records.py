"""The numbers of each trained token, against the metrics and the gradient of their update."""

from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.metrics import TokenRecord, update_metrics
from tests.builders.samples import TWO_TURNS, make_samples
from tests.builders.tiny_learner import (
    MakeModel,
    gradient_of_one_step,
    plain_logprobs,
    weights_of,
)

WAYS: list[dict[str, Any]] = [
    {"objective": "gmpo", "optimizer_steps": 3},
    # An episode of several parts does not fit into a micro-batch: its parts are joined.
    {"objective": "gmpo", "optimizer_steps": 2, "micro_batch_tokens": 12},
    {"objective": "grpo", "optimizer_steps": 3, "entropy_bonus": 0.1, "importance_mask": 3.0},
]
"""Ways to learn; the rates are high, so ratios leave the bounds."""


def learner_that_keeps(model: Any, *, keep: bool = True, **settings: Any) -> Learner:
    values = {"device": "cpu", "learning_rate": 3e-2, "max_grad_norm": 1e9, **settings}
    values |= {"warmup_steps": 0}
    return Learner(
        model,
        LearnerSettings.model_validate(values),
        LearnerContext(total_steps=100, keep_token_records=keep),
    )


def as_record(records: dict[str, Tensor]) -> TokenRecord:
    others = ("sample", "optimizer_step")
    return TokenRecord(**{k: v for k, v in records.items() if k not in others})


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_they_give_the_metrics_of_their_update(way: dict[str, Any], tiny_model: MakeModel) -> None:
    samples = make_samples(8, parts=2)
    learner = learner_that_keeps(tiny_model(), **way)
    before = learner.logprobs(samples)
    metrics = learner.update(samples)
    records = learner.token_records()
    got = update_metrics([], [as_record(records)])
    assert metrics["log_ratio_rms"] > 0.01
    assert metrics["clip_fraction_low"] + metrics["clip_fraction_high"] > 0
    for name, value in got.items():
        if name not in ("loss", "grad_norm", "grad_norm_spread"):
            assert metrics[name] == pytest.approx(value, rel=0, abs=1e-12), name
    # Each token is where its sample says: the sampler's log-prob and the mismatch are the old one.
    expected: list[Tensor] = []
    sampled: list[float] = []
    for i, old in enumerate(torch.split(before, [s.agent_tokens for s in samples])):
        own = records["sample"] == i
        if own.any():
            expected.append(old)
            ids = zip(samples[i].behavior_logprobs, samples[i].action_mask, strict=True)
            sampled += [logprob for logprob, is_action in ids if is_action]
            assert len({*records["optimizer_step"][own].tolist()}) == 1
    old = torch.tensor(sampled, dtype=torch.float64) + records["mismatch"]
    torch.testing.assert_close(old, torch.cat(expected), rtol=0, atol=1e-12)
    assert {*records["optimizer_step"].tolist()} == {*range(1, way["optimizer_steps"] + 1)}


@pytest.mark.parametrize("objective", ["gmpo", "grpo", "gspo", "cispo", "dapo"])
def test_weight_times_share_is_the_gradient(
    objective: str, tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(5)
    model = tiny_model()
    # The sampler's log-probs as old ones: the ratios of the only step are far from 1.
    learner = learner_that_keeps(
        model, objective=objective, old_logprobs="sampler", optimizer_steps=1
    )
    gradient = gradient_of_one_step(monkeypatch, learner, lambda: learner.update(samples))
    records = learner.token_records()
    if objective != "cispo":  # whose clip leaves each token its gradient
        assert not records["weight"].all(), "a clipped token has weight 0"
    total = torch.zeros(())
    for i, sample in enumerate(samples):
        own = records["sample"] == i
        if own.any():
            logprobs = plain_logprobs(model, sample)[torch.tensor(sample.action_mask[1:])]
            total = total - (records["weight"] * records["share"])[own] @ logprobs
    expected = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    flat = torch.cat([g.flatten() for g in expected if g is not None])
    torch.testing.assert_close(gradient, flat, rtol=0, atol=1e-10)


def test_at_ratio_one_the_weight_is_the_advantage(tiny_model: MakeModel) -> None:
    learner = learner_that_keeps(
        tiny_model(), objective="grpo", optimizer_steps=1, importance="none"
    )
    learner.update([TWO_TURNS])
    assert learner.token_records()["weight"].tolist() == pytest.approx([0.5] * 2 + [-0.25] * 3)
    assert learner.token_records()["share"].tolist() == pytest.approx([0.2] * 5)


def test_to_keep_them_changes_no_weight(tiny_model: MakeModel) -> None:
    samples, trained = make_samples(6), []
    for keep in (False, True):
        model = tiny_model()
        learner = learner_that_keeps(model, keep=keep, optimizer_steps=2)
        learner.update(samples)
        trained.append(weights_of(model))
        assert bool(learner.token_records()) == keep
    assert torch.equal(*trained)
