import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.batch import Batch, TrainingSample
from agent_rl.learner import Learner, learning_rate_factor
from agent_rl.objectives import gmpo, grpo
from agent_rl.settings import LearnerSettings

MakeModel = Callable[..., LlamaForCausalLM]
MakeSamples = Callable[..., list[TrainingSample]]


def learner_of(model: LlamaForCausalLM, **settings: Any) -> Learner:
    values = {"device": "cpu", "learning_rate": 1e-2, "max_grad_norm": 1e9, **settings}
    return Learner(model, LearnerSettings.model_validate(values), total_steps=100)


def plain_logprobs(model: LlamaForCausalLM, sample: TrainingSample, temperature: float = 1.0) -> Tensor:
    """Log-probs of a sample's targets, [T], from the whole logits of an unpadded forward pass."""
    ids = torch.tensor([sample.token_ids])
    logits = model(input_ids=ids).logits[0, :-1] / temperature
    return torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None]).squeeze(-1)


def weights_of(model: LlamaForCausalLM) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradient_of_one_step(monkeypatch: pytest.MonkeyPatch, learner: Learner, train: Callable[[], Any]) -> Tensor:
    """The gradient that the optimizer is given."""
    seen: list[Tensor] = []
    monkeypatch.setattr(
        learner._optimizer,
        "step",
        lambda: seen.append(torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])),
    )
    train()
    (gradient,) = seen
    return gradient


def test_logprobs_are_those_of_plain_full_logits(tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    model, samples = tiny_model(), random_samples(5)
    learner = Learner(model, LearnerSettings(device="cpu"), total_steps=1, temperature=0.7)
    got = learner.logprobs(Batch.from_samples(samples))
    for row, sample in enumerate(samples):
        mask = torch.tensor(sample.action_mask[1:])
        expected = torch.where(mask, plain_logprobs(model, sample, 0.7), 0.0)
        torch.testing.assert_close(got[row, : len(mask)], expected.detach(), rtol=0, atol=1e-12)
        assert not got[row, len(mask) :].any()


@pytest.mark.parametrize(
    "settings", [{"objective": "gmpo"}, {"objective": "gmpo", "scope": "turn"}, {"objective": "grpo"}]
)
def test_the_gradient_does_not_depend_on_micro_batches(
    settings: dict[str, Any], tiny_model: MakeModel, random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(micro_batch_tokens: int) -> tuple[Tensor, dict[str, float]]:
        learner = learner_of(
            tiny_model(), old_logprobs="sampler", optimizer_steps=1, micro_batch_tokens=micro_batch_tokens, **settings
        )
        metrics: dict[str, float] = {}
        gradient = gradient_of_one_step(monkeypatch, learner, lambda: metrics.update(learner.update(random_samples(9))))
        return gradient, metrics

    whole, whole_metrics = run(10_000)
    assert float(whole.norm()) > 1e-3
    assert whole_metrics["clip_fraction_low"] > 0
    assert whole_metrics["clip_fraction_high"] > 0
    for budget in (1, 25, 40):
        split, metrics = run(budget)
        torch.testing.assert_close(split, whole, rtol=0, atol=1e-10)
        for name in set(metrics) - {"seconds"}:
            assert metrics[name] == pytest.approx(whole_metrics[name], abs=1e-10), name


@pytest.mark.parametrize("objective", ["gmpo", "grpo"])
def test_the_step_is_the_objective_on_all_samples(
    objective: str, tiny_model: MakeModel, random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the objective on full logits and unpadded rows, samples of advantage 0 in the divisor."""
    samples, model = random_samples(6), tiny_model()
    function = gmpo if objective == "gmpo" else grpo
    total = torch.zeros((), dtype=torch.float64)
    for s in samples:
        mask = torch.tensor([s.action_mask[1:]])
        old = torch.tensor([s.behavior_logprobs[1:]], dtype=torch.float64)
        advantage = torch.tensor([s.advantage], dtype=torch.float64)
        total = total + function(plain_logprobs(model, s)[None], old, mask, advantage, divisor=len(samples))[0]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))])
    learner = learner_of(tiny_model(), objective=objective, old_logprobs="sampler", optimizer_steps=1)
    metrics: dict[str, float] = {}
    got = gradient_of_one_step(monkeypatch, learner, lambda: metrics.update(learner.update(samples)))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    assert metrics["loss"] == pytest.approx(total.item(), abs=1e-10)
    assert metrics["trained_tokens"] == sum(s.agent_tokens for s in samples if s.advantage)


def test_on_policy_gmpo_and_grpo_take_the_same_step(tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    models = [tiny_model(), tiny_model()]
    for model, objective in zip(models, ("gmpo", "grpo"), strict=True):
        metrics = learner_of(model, objective=objective, optimizer_steps=1, tis_cap=0).update(random_samples(6))
        assert metrics["log_ratio_abs_max"] == 0.0
        assert metrics["ratio_mean"] == 1.0
        assert metrics["mismatch_abs_max"] > 0.0
    torch.testing.assert_close(weights_of(models[0]), weights_of(models[1]), rtol=0, atol=1e-12)


def test_old_logprobs_stay_those_before_the_first_step(tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    """The learner's own old log-probs, handed in as the sampler's, give the same run."""
    samples, first, second = random_samples(8), tiny_model(), tiny_model()
    own = learner_of(first, old_logprobs="learner", tis_cap=0, optimizer_steps=3).update(samples)
    handed = [
        dataclasses.replace(
            s,
            behavior_logprobs=tuple(
                x if bit else 0.0
                for x, bit in zip([0.0, *plain_logprobs(second, s).tolist()], s.action_mask, strict=True)
            ),
        )
        for s in samples
    ]
    given = learner_of(second, old_logprobs="sampler", optimizer_steps=3).update(handed)
    assert own["optimizer_steps"] == 3
    assert own["log_ratio_abs_max"] == pytest.approx(given["log_ratio_abs_max"], abs=1e-9)
    assert own["log_ratio_abs_max"] > 0.0
    torch.testing.assert_close(weights_of(first), weights_of(second), rtol=0, atol=1e-9)


def test_an_update_moves_probability_to_what_was_better(tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    model, samples = tiny_model(), [s for s in random_samples(8) if s.advantage]
    learner = learner_of(model, optimizer_steps=2)
    batch = Batch.from_samples(samples, dtype=torch.float64)

    def weighted() -> float:
        return float((learner.logprobs(batch).sum(1) * batch.advantage_B).sum())

    before = weighted()
    for _ in range(3):
        learner.update(samples)
    assert weighted() > before


def test_without_any_advantage_nothing_moves_but_the_schedule(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model = tiny_model()
    learner = learner_of(model, weight_decay=0.1, optimizer_steps=2, schedule="linear")
    before = weights_of(model)
    metrics = learner.update([dataclasses.replace(s, advantage=0.0) for s in random_samples(4)])
    assert torch.equal(weights_of(model), before)
    assert (metrics["optimizer_steps"], metrics["loss"]) == (0.0, 0.0)
    assert learner.learning_rate == pytest.approx(0.98e-2)


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
def test_supervised_steps_learn_the_samples(dtype: str, tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    learner = learner_of(tiny_model(dtype=torch.float32), dtype=dtype)
    losses = [learner.supervised_step(random_samples(4))["loss"] for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_loss_that_is_not_finite_stops_before_the_weights_move(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model, samples = tiny_model(), random_samples(4)
    i = samples[0].action_mask.index(True)
    broken = list(samples[0].behavior_logprobs)
    broken[i] = -math.inf
    samples[0] = dataclasses.replace(samples[0], behavior_logprobs=tuple(broken), advantage=-1.0)
    before = weights_of(model)
    with pytest.raises(FloatingPointError, match="loss of optimizer step 1 is inf"):
        learner_of(model, old_logprobs="sampler", optimizer_steps=1).update(samples)
    assert torch.equal(weights_of(model), before)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model = tiny_model()
    model.model.embed_tokens.weight.register_hook(lambda grad: grad * math.nan)
    before = weights_of(model)
    with pytest.raises(FloatingPointError, match="gradient norm of optimizer step 1 is nan"):
        learner_of(model).supervised_step(random_samples(2))
    assert torch.equal(weights_of(model), before)


def test_the_gradient_is_clipped(
    tiny_model: MakeModel, random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(tiny_model(), max_grad_norm=0.01)
    metrics: dict[str, float] = {}
    got = gradient_of_one_step(monkeypatch, learner, lambda: metrics.update(learner.supervised_step(random_samples(3))))
    assert metrics["grad_norm"] > 0.1
    assert float(got.norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_learning_rate_warms_up_and_falls() -> None:
    def factors(**values: Any) -> list[float]:
        settings = LearnerSettings(warmup_steps=2, **values)
        return [learning_rate_factor(step, settings, total_steps=6) for step in range(7)]

    assert factors() == [0.5, 1, 1, 1, 1, 1, 1]
    assert factors(schedule="linear") == [0.5, 1, 1, 0.75, 0.5, 0.25, 0]
    assert factors(schedule="cosine") == pytest.approx([0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0])
