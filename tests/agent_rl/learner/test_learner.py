import dataclasses
import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.config.model import LoraSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.optimizer import learning_rate_factor
from agent_rl.learner.plan import micro_batches
from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample, groups_of
from agent_rl.objective.policy_loss import AgentTokens, policy_loss
from agent_rl.objective.presets import PRESETS
from agent_rl.policy.lora import with_lora

MakeModel = Callable[..., LlamaForCausalLM]
MakeSamples = Callable[..., list[TrainingSample]]
WALL = {"seconds", "tokens_per_second", "model_flop_utilisation", "peak_memory_gib"}
OF_THE_SPLIT = {"shared_prefixes"}
"""Metrics that say how the work was done, and so depend on its micro-batches."""


def learner_of(model: PreTrainedModel, **settings: Any) -> Learner:
    values = {"device": "cpu", "learning_rate": 1e-2, "max_grad_norm": 1e9, **settings}
    return Learner(model, LearnerSettings.model_validate(values), LearnerContext(total_steps=100))


def plain_logprobs(
    model: LlamaForCausalLM, sample: TrainingSample, temperature: float = 1.0
) -> Tensor:
    """Log-probs of a sample's targets, [T], from the whole logits of an unpadded forward pass."""
    ids = torch.tensor([sample.token_ids])
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    logits = model(input_ids=ids).logits[0, :-1] / temperature
    model.set_attn_implementation(before)
    return torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None]).squeeze(-1)


def weights_of(model: LlamaForCausalLM) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradient_of_one_step(
    monkeypatch: pytest.MonkeyPatch, learner: Learner, train: Callable[[], Any]
) -> Tensor:
    """The gradient that the optimizer is given."""
    seen: list[Tensor] = []
    monkeypatch.setattr(
        learner._optimizer.inner,
        "step",
        lambda: seen.append(
            torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])
        ),
    )
    train()
    (gradient,) = seen
    return gradient


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


SPLITS = [
    {"objective": "gmpo"},
    {"objective": "gmpo", "aggregation": "turn"},
    {"objective": "gspo", "epsilon": 0.2},
    {"objective": "grpo", "entropy_bonus": 0.01},
    {"objective": "dapo"},
    {"objective": "dr_grpo"},
    {"objective": "cispo"},
    {"objective": "rloo"},
]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    "settings", SPLITS, ids=lambda settings: "-".join(map(str, settings.values()))
)
def test_the_gradient_does_not_depend_on_micro_batches(
    settings: dict[str, Any],
    parts: int,
    tiny_model: MakeModel,
    random_samples: MakeSamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor on the cuts of an episode into samples, which then stand in different micro-batches."""

    def run(micro_batch_tokens: int) -> tuple[Tensor, dict[str, float]]:
        learner = learner_of(
            tiny_model(),
            old_logprobs="sampler",
            optimizer_steps=1,
            micro_batch_tokens=micro_batch_tokens,
            **settings,
        )
        metrics: dict[str, float] = {}
        samples = random_samples(9, parts=parts)
        gradient = gradient_of_one_step(
            monkeypatch, learner, lambda: metrics.update(learner.update(samples))
        )
        return gradient, metrics

    whole, whole_metrics = run(10_000)
    assert float(whole.norm()) > 1e-3
    clipped = whole_metrics["clip_fraction_low"] + whole_metrics["clip_fraction_high"]
    assert (clipped > 0) == (settings["objective"] not in ("cispo", "rloo"))
    for budget in (1, 25, 40):
        split, metrics = run(budget)
        torch.testing.assert_close(split, whole, rtol=0, atol=1e-10)
        for name in set(metrics) - WALL - OF_THE_SPLIT:
            assert metrics[name] == pytest.approx(whole_metrics[name], abs=1e-10), name


def grouped_samples() -> list[TrainingSample]:
    """Three groups of four episodes, shuffled.

    All of a group see a prompt of 5 tokens. The first two say the same 3 tokens and see the same 2,
    and then say 2 or 3 of their own; the third says 3 other ones, sees 2, and says 2; the fourth is
    the first one up to its first turn.
    """
    rng = random.Random(0)

    def tokens(count: int, first: int) -> tuple[int, ...]:
        """Two that begin with different tokens."""
        return (first, *(rng.randrange(32) for _ in range(count - 1)))

    samples = []
    for group in range(3):
        prompt, turn, seen = tokens(5, group), tokens(3, 10), tokens(2, 11)
        for ids, runs in [
            (prompt + turn + seen + tokens(2, 12), (5, 3, 2, 2)),
            (prompt + turn + seen + tokens(3, 13), (5, 3, 2, 3)),
            (prompt + tokens(3, 14) + seen + tokens(2, 15), (5, 3, 2, 2)),
            (prompt + turn, (5, 3)),
        ]:
            mask = tuple(bool(k % 2) for k, run in enumerate(runs) for _ in range(run))
            samples.append(
                TrainingSample(
                    token_ids=ids,
                    action_mask=mask,
                    behavior_logprobs=tuple(-4.0 * rng.random() if bit else 0.0 for bit in mask),
                    advantages=(rng.choice([-1.0, 1.0]) * (0.5 + rng.random()),) * (len(runs) // 2),
                )
            )
    rng.shuffle(samples)
    return samples


def sizes_of(samples: list[TrainingSample], max_tokens: int) -> list[int]:
    """How many samples there are in each micro-batch."""
    return [len(one) for block in micro_batches(samples, max_tokens) for one in block]


def test_the_grouped_samples_are_what_they_are_said_to_be() -> None:
    """What the tests below rest on."""
    samples = grouped_samples()
    assert [len(group) for group in groups_of(samples)] == [4, 4, 4]
    # The last tokens left out, a group's have 11, 12, 11 and 7 positions. Shared, in their order: 7
    # of the fourth, 4 more of the first, 2 more of the second, which has 10 of the first, and 6
    # more of the third, which has the prompt.
    assert sum(len(sample.inputs) for sample in samples) == 3 * 41
    assert PrefixTree.of([sample.inputs for sample in samples]).size == 3 * 19
    assert sizes_of(samples, 57) == [12]
    assert sizes_of(samples, 40) == [8, 4]
    assert sizes_of(samples, 14) == [3, 1, 3, 1, 3, 1]
    assert sizes_of(samples, 1) == [1] * 12


WAYS: list[dict[str, Any]] = [
    {},
    {"micro_batch_tokens": 14},
    {"micro_batch_tokens": 1},
    {"activation_checkpointing": True, "logit_chunk": 3, "micro_batch_tokens": 40},
    {"optimizer_steps": 1, "old_logprobs": "sampler", "epsilon": 0.3},
    {"beta": 0.1, "entropy_bonus": 0.01, "micro_batch_tokens": 14},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way)) or "plain")
@pytest.mark.parametrize("objective", PRESETS)
def test_shared_prefixes_change_nothing_but_the_work(
    objective: str, way: dict[str, Any], tiny_model: MakeModel
) -> None:
    values = {
        "objective": objective,
        "optimizer_steps": 2,
        "learning_rate": 1e-3,
        "micro_batch_tokens": 10_000,
        **way,
    }
    if objective in ("rloo", "reinforce"):
        values.pop("epsilon", None)  # they clip nothing

    def run(share_prefixes: bool) -> tuple[dict[str, float], Tensor]:
        model = tiny_model()
        settings = LearnerSettings.model_validate(
            {"device": "cpu", "share_prefixes": share_prefixes, **values}
        )
        reference = tiny_model() if settings.beta else None
        learner = Learner(model, settings, LearnerContext(total_steps=100, reference=reference))
        metrics = learner.update(grouped_samples())
        return metrics, weights_of(model)

    (expected, apart), (got, shared) = run(share_prefixes=False), run(share_prefixes=True)
    assert expected["grad_norm"] > 1e-3
    assert float((apart - weights_of(tiny_model())).abs().max()) > 5e-4
    torch.testing.assert_close(shared, apart, rtol=0, atol=1e-10)
    for name in set(expected) - WALL - OF_THE_SPLIT:
        assert got[name] == pytest.approx(expected[name], rel=0, abs=1e-10), name
    assert expected["shared_prefixes"] == 0.0
    assert (got["shared_prefixes"] > 0.1) is (values["micro_batch_tokens"] > 1)


@pytest.mark.parametrize(
    "way", [way for way in WAYS if not {"beta", "epsilon"} & set(way)], ids=str
)
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


@pytest.mark.parametrize(("share_prefixes", "passes"), [(True, 3), (False, 9)])
def test_no_pass_takes_more_than_the_budget(
    share_prefixes: bool, passes: int, tiny_model: MakeModel
) -> None:
    """In the passes for old log-probs, in those of the optimizer steps, and in supervised steps."""
    model, sizes = tiny_model(), []
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    # A group takes 19 positions. Not shared it takes three passes: 7 and 11, 12, and 11, perhaps
    # with the next one's 7.
    learner = learner_of(
        model, share_prefixes=share_prefixes, optimizer_steps=3, micro_batch_tokens=19
    )
    learner.update(grouped_samples())
    assert len(sizes) == 2 * passes
    learner.supervised_step(grouped_samples())
    assert len(sizes) == 3 * passes
    assert max(sizes) == (19 if share_prefixes else 18)
    assert sum(sizes) == 3 * (3 * 19 if share_prefixes else 3 * 41)


def pair(second: int) -> list[TrainingSample]:
    """Two episodes of 4 positions each, which begin alike."""
    return [
        TrainingSample(
            token_ids=(1, 5, 6, last, 8),
            action_mask=(False, False, False, True, True),
            behavior_logprobs=(0.0, 0.0, 0.0, -1.0, -1.0),
            advantages=(advantage,),
        )
        for last, advantage in ((7, 1.0), (second, -1.0))
    ]


@pytest.mark.parametrize(
    ("values", "second", "expected"),
    [
        # 1 5 6 7 and 9 behind the 6: 5 of 8 positions; with the same token, 4.
        ({"optimizer_steps": 1}, 9, 3 / 8),
        ({"optimizer_steps": 1}, 7, 4 / 8),
        ({"optimizer_steps": 1, "micro_batch_tokens": 4}, 9, 0.0),
        ({"optimizer_steps": 1, "share_prefixes": False}, 9, 0.0),
        # The old log-probs take both together, 5 positions, and the two steps 4 each.
        ({"optimizer_steps": 2}, 9, 3 / 16),
        ({"optimizer_steps": 2, "share_prefixes": False}, 9, 0.0),
    ],
)
def test_the_share_of_shared_prefixes_by_hand(
    values: dict[str, Any], second: int, expected: float, tiny_model: MakeModel
) -> None:
    assert learner_of(tiny_model(), **values).update(pair(second))[
        "shared_prefixes"
    ] == pytest.approx(expected)


def test_nothing_is_shared_where_nothing_goes_through_the_model(tiny_model: MakeModel) -> None:
    samples = [dataclasses.replace(sample, advantages=(0.0,)) for sample in pair(9)]
    assert learner_of(tiny_model()).update(samples)["shared_prefixes"] == 0.0


@pytest.mark.parametrize("objective", ["gmpo", "grpo"])
def test_the_step_is_the_objective_on_all_samples(
    objective: str,
    tiny_model: MakeModel,
    random_samples: MakeSamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the objective on full logits and unpadded rows, samples of advantage 0 in the
    divisor.
    """
    samples, model = random_samples(6), tiny_model()
    rule = LearnerSettings.model_validate({"objective": objective}).chosen_objective
    total = torch.zeros((), dtype=torch.float64)
    for s in samples:
        mask = torch.tensor(s.action_mask[1:])
        new = plain_logprobs(model, s)[mask]
        zeros = torch.zeros(len(new), dtype=torch.long)
        tokens = AgentTokens(
            logp_new=new,
            logp_old=torch.tensor(s.behavior_logprobs[1:], dtype=torch.float64)[mask],
            advantage=torch.full_like(new, s.advantages[0]).detach(),
            share=torch.full_like(new, 1 / len(new) / len(samples)).detach(),
            turn=zeros,
            episode=zeros,
            log_weight=zeros.double(),
        )
        total = total + policy_loss(rule, tokens)[0]
    expected = torch.cat(
        [g.flatten() for g in torch.autograd.grad(total, list(model.parameters()))]
    )
    learner = learner_of(
        tiny_model(), objective=objective, old_logprobs="sampler", optimizer_steps=1
    )
    metrics: dict[str, float] = {}
    got = gradient_of_one_step(
        monkeypatch, learner, lambda: metrics.update(learner.update(samples))
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    assert metrics["loss"] == pytest.approx(total.item(), abs=1e-10)
    assert metrics["trained_tokens"] == sum(s.agent_tokens for s in samples if s.has_gradient)


def test_on_policy_gmpo_and_grpo_take_the_same_step(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    models = [tiny_model(), tiny_model()]
    for model, objective in zip(models, ("gmpo", "grpo"), strict=True):
        metrics = learner_of(
            model, objective=objective, optimizer_steps=1, importance="none"
        ).update(random_samples(6))
        assert metrics["log_ratio_abs_max"] == 0.0
        assert metrics["ratio_mean"] == 1.0
        assert metrics["mismatch_abs_max"] > 0.0
    torch.testing.assert_close(weights_of(models[0]), weights_of(models[1]), rtol=0, atol=1e-12)


def test_old_logprobs_stay_those_before_the_first_step(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    """The learner's own old log-probs, handed in as the sampler's, give the same run."""
    samples, first, second = random_samples(8), tiny_model(), tiny_model()
    own = learner_of(first, old_logprobs="learner", importance="none", optimizer_steps=3).update(
        samples
    )
    handed = [
        dataclasses.replace(
            s,
            behavior_logprobs=tuple(
                x if bit else 0.0
                for x, bit in zip(
                    [0.0, *plain_logprobs(second, s).tolist()], s.action_mask, strict=True
                )
            ),
        )
        for s in samples
    ]
    given = learner_of(second, old_logprobs="sampler", optimizer_steps=3).update(handed)
    assert own["optimizer_steps"] == 3
    assert own["log_ratio_abs_max"] == pytest.approx(given["log_ratio_abs_max"], abs=1e-9)
    assert own["log_ratio_abs_max"] > 0.0
    torch.testing.assert_close(weights_of(first), weights_of(second), rtol=0, atol=1e-9)


def test_an_update_moves_probability_to_what_was_better(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model, samples = tiny_model(), [s for s in random_samples(8) if s.has_gradient]
    learner = learner_of(model, optimizer_steps=2)

    def weighted() -> float:
        return sum(s.advantages[0] * float(learner.logprobs([s]).sum()) for s in samples)

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
    metrics = learner.update(
        [dataclasses.replace(s, advantages=(0.0,) * s.turns) for s in random_samples(4)]
    )
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
def test_supervised_steps_learn_the_samples(
    dtype: str, tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
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


def test_beta_pulls_the_policy_to_its_reference(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model, samples = (
        tiny_model(),
        [dataclasses.replace(s, advantages=(0.0,) * s.turns) for s in random_samples(6)],
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    settings = LearnerSettings(device="cpu", learning_rate=3e-3, optimizer_steps=1, beta=1.0)
    learner = Learner(model, settings, LearnerContext(total_steps=100, reference=tiny_model()))
    divergences = [learner.update(samples)["kl_reference"] for _ in range(20)]
    assert divergences[0] > 0.01
    assert divergences[-1] < 0.5 * divergences[0]


def test_an_adapter_is_compared_with_the_policy_without_it(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    base = tiny_model()
    before = weights_of(base)
    model = with_lora(base, LoraSettings(rank=2, alpha=4), source="base")
    learner = learner_of(model, optimizer_steps=1, beta=0.1)
    divergences = [learner.update(random_samples(6))["kl_reference"] for _ in range(3)]
    assert divergences[0] == pytest.approx(0.0, abs=1e-12)
    assert divergences[2] > 1e-6
    plain = torch.cat(
        [p.detach().flatten() for name, p in model.named_parameters() if "lora_" not in name]
    )
    assert torch.equal(plain.sort().values, before.sort().values), "the base's weights do not move"


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
    got = gradient_of_one_step(
        monkeypatch, learner, lambda: metrics.update(learner.supervised_step(random_samples(3)))
    )
    assert metrics["grad_norm"] > 0.1
    assert float(got.norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_learning_rate_warms_up_and_falls() -> None:
    def factors(**values: Any) -> list[float]:
        settings = LearnerSettings(warmup_steps=2, **values)
        return [learning_rate_factor(step, settings, total_steps=6) for step in range(7)]

    assert factors() == [0.5, 1, 1, 1, 1, 1, 1]
    assert factors(schedule="linear") == [0.5, 1, 1, 0.75, 0.5, 0.25, 0]
    assert factors(schedule="cosine") == pytest.approx(
        [0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]
    )
