"""The loss of episodes that several versions of the weights sampled, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import Batch
from agent_rl.learner.loss import LossRule, ScoredTokens, StepCounts
from agent_rl.learner.metrics import Metrics, update_metrics
from agent_rl.learner.samples import samples_from_group
from agent_rl.learner.scoring import Scores
from rollouts.types import StopReason
from tests.builders.episodes import group, trajectory, turn

# Version 3 sampled the first turn and one token of the second. Version 4, the learner's, sampled
# the rest. The other episode is of version 4 alone.
MIXED = trajectory(
    turn(ids=(5, 2), logprobs=(-1.0, -2.0), policy_version=3),
    turn(ids=(6, 7, 2), logprobs=(-0.5, -1.5, -0.7), versions=((3, 0), (4, 1)), reward=1.0),
)
OTHER = trajectory(
    turn(ids=(2,), logprobs=(-0.3,), policy_version=4), stop_reason=StopReason.FAILURE
)
OLD = [-0.8, -1.1, -0.9, -1.5, -0.7, -0.3]
"""The learner's log-probs at the start of the update. Less the sampler's: 0.2, 0.9 and -0.4 where
version 3 sampled, and 0 where the learner's own did."""
STEP = [0.1, 0.5, -0.6, 0.0, 0.2, 0.0]
"""What the optimizer steps have added to them since."""


def trained(**values: Any) -> tuple[float, Tensor, Metrics]:
    """The loss, its gradient with respect to the new log-probs, and the metrics.

    The episodes' advantages are 0.5 and -0.5.
    """
    settings = LearnerSettings.model_validate({"advantage": "group_mean", **values})
    samples = samples_from_group(group(MIXED, OTHER), "group_mean", version=4)
    batch = Batch.from_samples(samples, dtype=torch.float64)
    assert batch.staleness_N.tolist() == [1, 1, 1, 0, 0, 0]
    old = torch.tensor(OLD, dtype=torch.float64)
    new = (old + torch.tensor(STEP, dtype=torch.float64)).requires_grad_()
    scores = Scores(logprobs_N=new, entropy_N=torch.zeros(6), correct_N=new > 0)
    rule = LossRule(settings, most_agent_tokens=10)
    loss, _, record = rule.policy(
        ScoredTokens.of(batch, scores, old=old, reference=None), StepCounts.of(samples)
    )
    (gradient,) = torch.autograd.grad(loss, new)
    return loss.item(), gradient, update_metrics([], [record])


def test_gmpo_corrects_each_token_by_the_version_that_sampled_it() -> None:
    """The weights 0.2, log 2 (capped) and -0.4 are in the geometric mean, beside the clipped steps
    0.1, 0.4, -0.6, 0 and 0.2.
    """
    loss, gradient, _ = trained()
    w = math.exp((0.1 + 0.4 - 0.6 + 0.0 + 0.2 + 0.2 + math.log(2.0) - 0.4) / 5)
    assert loss == pytest.approx((-0.5 * w + 0.5) / 2)
    # The second token is clipped.
    each = -0.5 * w / 5 / 2
    assert gradient.tolist() == pytest.approx([each, 0.0, each, each, each, 0.25])


def test_grpo_corrects_each_token_alone() -> None:
    _, gradient, _ = trained(objective="grpo")
    # The second token, 0.5, is beyond log 1.2, and so is the fifth, 0.2.
    weights = [math.exp(0.1 + 0.2), 0.0, math.exp(-0.6 - 0.4), 1.0, 0.0]
    assert gradient.tolist() == pytest.approx([-0.5 * w / 5 / 2 for w in weights] + [0.25])


def test_the_samplers_log_probs_put_the_age_into_the_ratio() -> None:
    """The ratio against the sampler holds both, and the clip sees the sum."""
    settings = LearnerSettings.model_validate({"old_logprobs": "sampler"})
    tokens = torch.tensor([0.3, 1.4, -1.0, 0.0, 0.2, 0.0], dtype=torch.float64)
    samples = samples_from_group(group(MIXED, OTHER), "group_mean", version=4)
    batch = Batch.from_samples(samples, dtype=torch.float64)
    new = (batch.behavior_logprobs_N + tokens).requires_grad_()
    scores = Scores(logprobs_N=new, entropy_N=torch.zeros(6), correct_N=new > 0)
    loss, _, record = LossRule(settings, most_agent_tokens=10).policy(
        ScoredTokens.of(batch, scores, old=batch.behavior_logprobs_N, reference=None),
        StepCounts.of(samples),
    )
    w = math.exp((0.3 + 0.4 - 1.0 + 0.0 + 0.2) / 5)
    assert loss.item() == pytest.approx((-0.5 * w + 0.5) / 2)
    metrics = update_metrics([], [record])
    assert metrics["staleness_1/mismatch_rms"] == 0.0
    assert metrics["staleness_1/log_ratio_rms"] == pytest.approx(
        math.sqrt((0.3**2 + 1.4**2 + 1.0**2) / 3)
    )


def test_the_metrics_tell_the_versions_apart() -> None:
    _, _, metrics = trained()
    assert (metrics["staleness_mean"], metrics["staleness_max"]) == (0.5, 1.0)
    expected = {
        "staleness_0/token_share": 0.5,
        "staleness_0/mismatch_rms": 0.0,
        "staleness_0/log_ratio_rms": math.sqrt(0.2**2 / 3),
        "staleness_0/clip_fraction_low": 0.0,
        "staleness_0/clip_fraction_high": 0.0,
        "staleness_0/capped_share": 0.0,
        "staleness_0/left_out_share": 0.0,
        "staleness_1/token_share": 0.5,
        "staleness_1/mismatch_rms": math.sqrt((0.2**2 + 0.9**2 + 0.4**2) / 3),
        "staleness_1/log_ratio_rms": math.sqrt((0.1**2 + 0.5**2 + 0.6**2) / 3),
        "staleness_1/clip_fraction_low": 0.0,
        "staleness_1/clip_fraction_high": 1 / 3,
        "staleness_1/capped_share": 1 / 3,
        "staleness_1/left_out_share": 0.0,
    }
    got = {key: value for key, value in metrics.items() if key in expected}
    assert got == pytest.approx(expected, abs=1e-12)
    assert {key for key in metrics if key[:11] in ("staleness_0", "staleness_1")} == set(expected)


def test_the_mask_leaves_out_old_tokens_only() -> None:
    # Weights e^0.9 and e^-0.4 are beyond 1.45 and its inverse, e^0.37 and e^-0.37.
    loss, _, metrics = trained(importance_mask=1.45, importance_cap=1.1)
    w = math.exp((0.1 + 0.0 + 0.2 + math.log(1.1)) / 3)
    assert loss == pytest.approx((-0.5 * w + 0.5) / 2)
    assert metrics["staleness_0/left_out_share"] == 0.0
    assert metrics["staleness_1/left_out_share"] == pytest.approx(2 / 3)
    assert metrics["staleness_1/capped_share"] == pytest.approx(1 / 3)
