from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from agent_rl.config.learner import LearnerSettings
from tests.builders.samples import grouped_samples
from tests.builders.tiny_learner import (
    WALL,
    MakeModel,
    gradient_of_one_step,
    learner_of,
    weights_of,
)


def test_on_policy_gmpo_and_grpo_point_the_same_way(tiny_model: MakeModel) -> None:
    learner = learner_of(
        tiny_model(), optimizer_steps=1, importance="none", probe="grpo", probe_every=1
    )
    metrics = learner.update(grouped_samples())
    assert metrics["probe_cosine"] == pytest.approx(1.0, abs=1e-12)
    assert metrics["probe_norm_ratio"] == pytest.approx(1.0, abs=1e-12)


def test_the_cosine_is_that_of_the_two_gradients(
    tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler's log-probs of the samples are not the model's, so the two differ."""
    off_policy: dict[str, Any] = {"optimizer_steps": 1, "old_logprobs": "sampler"}
    gradients = {}
    for objective in ("gmpo", "grpo"):
        learner = learner_of(tiny_model(), objective=objective, **off_policy)
        train = partial(learner.update, grouped_samples())
        gradients[objective] = gradient_of_one_step(monkeypatch, learner, train)
    ours, theirs = gradients["gmpo"], gradients["grpo"]
    expected = float(torch.dot(ours, theirs) / ours.norm() / theirs.norm())
    assert abs(expected) < 0.999
    for micro_batch_tokens in (10_000, 14):
        learner = learner_of(
            tiny_model(),
            **off_policy,
            probe="grpo",
            probe_every=1,
            micro_batch_tokens=micro_batch_tokens,
        )
        got = learner.update(grouped_samples())
        assert got["probe_cosine"] == pytest.approx(expected, abs=1e-10)
        assert got["probe_norm_ratio"] == pytest.approx(float(theirs.norm() / ours.norm()))


def test_a_probe_changes_nothing(tiny_model: MakeModel) -> None:
    with_probe, without = tiny_model(), tiny_model()
    settings: dict[str, Any] = {"optimizer_steps": 3, "beta": 0.0, "entropy_bonus": 0.01}
    probed = learner_of(with_probe, **settings, probe="gspo", probe_every=2)
    first = probed.update(grouped_samples())
    plain = learner_of(without, **settings).update(grouped_samples())
    assert torch.equal(weights_of(with_probe), weights_of(without))
    extra = {"probe_cosine", "probe_norm_ratio"}
    assert set(first) - set(plain) == extra, "the second of three optimizer steps is probed"
    for name in set(plain) - WALL:
        assert first[name] == plain[name], name


@pytest.mark.parametrize("micro_batch_tokens", [10_000, 14])
def test_a_probe_that_is_not_finite_is_told_once_and_ends_nothing(
    tiny_model: MakeModel, capsys: pytest.CaptureFixture[str], micro_batch_tokens: int
) -> None:
    """The sampler gave a token of a success e^-1000: GMPO cuts its ratio, REINFORCE does not."""
    samples = grouped_samples()
    number = next(i for i, sample in enumerate(samples) if sample.advantages[0] > 0)
    place = samples[number].action_mask.index(True)
    logprobs = list(samples[number].behavior_logprobs)
    logprobs[place] = -1000.0
    samples[number] = replace(samples[number], behavior_logprobs=tuple(logprobs))
    with_probe, without = tiny_model(), tiny_model()
    settings: dict[str, Any] = {
        "optimizer_steps": 1,
        "old_logprobs": "sampler",
        "micro_batch_tokens": micro_batch_tokens,
    }
    probed = learner_of(with_probe, **settings, probe="reinforce", probe_every=1)
    for _ in range(2):
        metrics = probed.update(samples)
        assert metrics["probe_not_finite"] == 1
        assert "probe_cosine" not in metrics
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("the gradient of reinforce is not finite at optimizer step 1, so") == 1
    plain = learner_of(without, **settings)
    for _ in range(2):
        plain.update(samples)
    assert torch.equal(weights_of(with_probe), weights_of(without))


def test_only_every_so_many_optimizer_steps_are_probed(tiny_model: MakeModel) -> None:
    learner = learner_of(tiny_model(), optimizer_steps=2, probe="grpo", probe_every=3)
    found = ["probe_cosine" in learner.update(grouped_samples()) for _ in range(4)]
    # Optimizer steps 1 2, 3 4, 5 6, 7 8.
    assert found == [False, True, True, False]


def test_the_probe_has_the_parts_of_its_preset() -> None:
    settings = LearnerSettings(objective="gmpo", epsilon=0.9, power=-1.0, probe="grpo")
    assert (
        settings.of_probe().chosen_objective == LearnerSettings(objective="grpo").chosen_objective
    )
