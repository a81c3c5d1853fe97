from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from tests.builders.samples import grouped_samples
from tests.builders.tiny_learner import (
    WALL,
    MakeModel,
    MakeSamples,
    gradient_of_one_step,
    learner_of,
    plain_logprobs,
    weights_of,
)


def test_logprobs_are_those_of_plain_full_logits(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model, samples = tiny_model(), random_samples(5)
    learner = Learner(
        model, LearnerSettings(device="cpu"), LearnerContext(total_steps=1, temperature=0.7)
    )
    expected = [plain_logprobs(model, s, 0.7)[torch.tensor(s.action_mask[1:])] for s in samples]
    torch.testing.assert_close(
        learner.logprobs(samples), torch.cat(expected).detach(), rtol=0, atol=1e-12
    )


SUPERVISED_WAYS: list[dict[str, Any]] = [
    {},
    {"micro_batch_tokens": 14},
    {"micro_batch_tokens": 1},
    {"activation_checkpointing": True, "logit_chunk": 3, "micro_batch_tokens": 40},
]


@pytest.mark.parametrize("way", SUPERVISED_WAYS, ids=str)
def test_shared_prefixes_change_no_supervised_step(
    way: dict[str, Any], tiny_model: MakeModel
) -> None:
    def run(share_prefixes: bool) -> tuple[dict[str, float], Tensor]:
        model = tiny_model()
        learner = learner_of(model, share_prefixes=share_prefixes, **{"learning_rate": 1e-3, **way})
        metrics = [learner.supervised_step(grouped_samples()) for _ in range(2)]
        return metrics[1], weights_of(model)

    (expected, apart), (got, shared) = run(share_prefixes=False), run(share_prefixes=True)
    torch.testing.assert_close(shared, apart, rtol=0, atol=1e-10)
    for name in set(expected) - WALL:
        assert got[name] == pytest.approx(expected[name], rel=0, abs=1e-10), name


def test_the_supervised_gradient_is_a_mean_over_tokens_under_any_split(
    tiny_model: MakeModel, random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supervise(learner: Learner, metrics: dict[str, float]) -> None:
        metrics.update(learner.supervised_step(samples))

    samples, model = random_samples(6), tiny_model()
    terms = [plain_logprobs(model, s)[torch.tensor(s.action_mask[1:])] for s in samples]
    loss = -torch.cat(terms).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    for budget in (1, 30, 10_000):
        learner = learner_of(tiny_model(), micro_batch_tokens=budget)
        metrics: dict[str, float] = {}
        got = gradient_of_one_step(monkeypatch, learner, partial(supervise, learner, metrics))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
        assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_supervised_steps_learn_the_samples(
    dtype: str, tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    learner = learner_of(tiny_model(dtype=torch.float32), dtype=dtype)
    losses = [learner.supervised_step(random_samples(4))["loss"] for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]


def of_three_rollout_steps(model: LlamaForCausalLM, **settings: Any) -> Learner:
    values = {
        "device": "cpu",
        "learning_rate": 1e-2,
        "optimizer_steps": 2,
        "old_logprobs": "sampler",
        "power": 1.0,
        "power_end": -1.0,
        **settings,
    }
    return Learner(model, LearnerSettings.model_validate(values), LearnerContext(total_steps=6))


def test_the_power_moves_over_the_run_and_goes_on_after_a_restart(
    tiny_model: MakeModel, random_samples: MakeSamples, tmp_path: Path
) -> None:
    samples, through, resumed = random_samples(6), tiny_model(), tiny_model()
    whole = of_three_rollout_steps(through)
    powers = [whole.update(samples)["power"]]
    whole.save(tmp_path / "one")
    powers.append(whole.update(samples)["power"])
    whole.save(tmp_path / "two")
    powers.append(whole.update(samples)["power"])
    assert powers == [1.0, 0.0, -1.0]
    second = of_three_rollout_steps(resumed)
    second.load(tmp_path / "one")
    assert [second.update(samples)["power"] for _ in range(2)] == [0.0, -1.0]
    assert torch.equal(weights_of(resumed), weights_of(through))
    # The last rollout step is that of a run with this power all along, and of no other.
    for power, same in ((-1.0, True), (1.0, False)):
        model = tiny_model()
        fixed = of_three_rollout_steps(model, power=power, power_end=None)
        fixed.load(tmp_path / "two")
        assert fixed.update(samples)["power"] == power
        assert torch.equal(weights_of(model), weights_of(through)) is same


def test_no_power_is_reported_where_no_ratios_are_averaged(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    assert "power" not in learner_of(tiny_model(), objective="grpo").update(random_samples(6))
    assert learner_of(tiny_model()).update(random_samples(6))["power"] == 0.0


@pytest.mark.parametrize("micro_batch_tokens", [10_000, 14])
def test_the_mean_entropy_is_that_of_all_agent_tokens(
    tiny_model: MakeModel, micro_batch_tokens: int
) -> None:
    learner = learner_of(tiny_model(), micro_batch_tokens=micro_batch_tokens)
    mean = learner.mean_entropy(grouped_samples())
    # A supervised step says the entropy of the policy before it.
    assert mean == pytest.approx(learner.supervised_step(grouped_samples())["entropy"], abs=1e-12)
    assert learner.mean_entropy(grouped_samples()) != mean
