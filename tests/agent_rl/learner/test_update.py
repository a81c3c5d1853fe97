import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.config.model import LoraSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.plan import micro_batches
from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample, groups_of
from agent_rl.objective.policy_loss import AgentTokens, policy_loss
from agent_rl.objective.presets import PRESETS
from agent_rl.policy.lora import with_lora
from tests.builders.samples import grouped_samples
from tests.builders.tiny_learner import (
    OF_THE_SPLIT,
    WALL,
    MakeModel,
    MakeSamples,
    gradient_of_one_step,
    learner_of,
    plain_logprobs,
    weights_of,
)

SPLITS = [
    {"objective": "gmpo"},
    {"objective": "gmpo", "aggregation": "turn"},
    {"objective": "gspo", "epsilon": 0.2},
    {"objective": "grpo", "entropy_bonus": 0.01},
    {"objective": "holder", "power": 1.0},
    {"objective": "gmpo", "power": -1.0},
    {"objective": "gmpo", "aggregation": "turn", "power": 2.0},
    {"objective": "dapo"},
    {"objective": "dapo", "clip_c": 1.5},
    {"objective": "gmpo", "off_policy_mask": 0.5},
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


def sizes_of(samples: list[TrainingSample], max_tokens: int) -> list[int]:
    """How many samples there are in each micro-batch."""
    return [len(one) for block in micro_batches(samples, max_tokens) for one in block]


def test_the_grouped_samples_are_as_described() -> None:
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


def test_a_step_has_about_so_many_turns(tiny_model: MakeModel) -> None:
    samples = grouped_samples()
    turns = sum(sample.turns for sample in samples)
    settings = LearnerSettings(optimizer_steps=9, turns_per_step=-(-turns // 3))
    learner = Learner(tiny_model(), settings, LearnerContext(total_steps=100))
    assert learner.update(samples)["optimizer_steps"] == 3.0


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


@pytest.mark.parametrize("micro_batch_tokens", [10_000, 15])
@pytest.mark.parametrize("optimizer_steps", [1, 2])
def test_old_log_probs_are_the_learners_whatever_version_sampled(
    optimizer_steps: int,
    micro_batch_tokens: int,
    tiny_model: MakeModel,
    random_samples: MakeSamples,
) -> None:
    """Two versions sample each episode, and the metrics find the distance between them."""
    learners, older = tiny_model(), tiny_model()
    with torch.no_grad():
        for parameter in older.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    samples, distances = [], []
    for sample in [s for s in random_samples(8) if s.has_gradient]:
        ours = [0.0, *plain_logprobs(learners, sample).tolist()]
        theirs = [0.0, *plain_logprobs(older, sample).tolist()]
        places = [place for place, bit in enumerate(sample.action_mask) if bit]
        recorded = [ours[place] if bit else 0.0 for place, bit in enumerate(sample.action_mask)]
        recorded[places[0]] = theirs[places[0]]
        distances.append(ours[places[0]] - theirs[places[0]])
        staleness = ((2, 0), (0, 1)) if len(places) > 1 else ((2, 0),)
        samples.append(
            dataclasses.replace(sample, behavior_logprobs=tuple(recorded), staleness=staleness)
        )
    metrics = learner_of(
        learners, optimizer_steps=optimizer_steps, micro_batch_tokens=micro_batch_tokens
    ).update(samples)
    assert metrics["staleness_max"] == 2.0
    assert metrics["staleness_0/mismatch_rms"] == pytest.approx(0.0, abs=1e-9)
    rms = (sum(distance**2 for distance in distances) / len(distances)) ** 0.5
    assert rms > 1e-3
    assert metrics["staleness_2/mismatch_rms"] == pytest.approx(rms, abs=1e-9)
    # Age is not in the objective's ratio: with one optimizer step it is 1 for all.
    assert (metrics["staleness_2/log_ratio_rms"] == 0.0) is (optimizer_steps == 1)


def test_an_update_moves_probability_to_better_episodes(
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
