"""Muon and AdamW as one optimizer."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.config import Config
from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.optimizer import learning_rate_factor, make_optimizer
from tests.builders.tiny_learner import (
    MakeModel,
    MakeSamples,
    gradient_of_one_step,
    learner_of,
    make_tiny_experts,
    weights_of,
)


def settings(**more: object) -> LearnerSettings:
    values = {
        "device": "cpu",
        "learning_rate": 1e-3,
        "muon_learning_rate": 1e-2,
        "max_grad_norm": 1e9,
    }
    return LearnerSettings.model_validate({**values, **more})


def values_of(model: LlamaForCausalLM) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_muon_has_the_layers_matrices_and_adamw_the_rest(tiny_model: MakeModel) -> None:
    model = tiny_model()
    names = {id(weight): name for name, weight in model.named_parameters()}
    adamw, muon = make_optimizer(model, list(model.parameters()), settings()).param_groups
    of_muon = {names[id(weight)] for weight in muon["params"]}
    assert of_muon == {name for name in names.values() if ".layers." in name and "norm" not in name}
    assert {names[id(weight)] for weight in adamw["params"]} == set(names.values()) - of_muon


def test_muon_has_the_experts_and_adamw_their_routers() -> None:
    model = make_tiny_experts()
    names = {id(weight): name for name, weight in model.named_parameters()}
    adamw, muon = make_optimizer(model, list(model.parameters()), settings()).param_groups
    layers = {names[id(weight)].partition(".layers.1.")[2] for weight in muon["params"]}
    attention = {f"self_attn.{letter}_proj.weight" for letter in "qkvo"}
    experts = {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}
    assert layers - {""} == attention | experts
    assert "model.layers.1.mlp.gate.weight" in {names[id(weight)] for weight in adamw["params"]}


def test_experts_resume_from_a_saved_folder(tmp_path: Path, random_samples: MakeSamples) -> None:
    learners = [
        Learner(make_tiny_experts(), settings(), LearnerContext(total_steps=10)) for _ in range(2)
    ]
    first, second = learners
    first.supervised_step(random_samples(3))
    first.save(tmp_path / "state")
    second.load(tmp_path / "state")
    for learner in learners:
        learner.supervised_step(random_samples(3, 1))
    assert torch.equal(weights_of(first.model), weights_of(second.model))


def test_a_first_step_moves_every_direction_of_a_matrix_alike(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    model = tiny_model()
    before = values_of(model)
    Learner(model, settings(), LearnerContext(total_steps=10)).supervised_step(random_samples(3))
    after = values_of(model)
    name = "model.layers.0.mlp.gate_proj.weight"
    moved = torch.linalg.svdvals((after[name] - before[name]).float())
    # The rate times 0.2 sqrt(the longer side), which Newton-Schulz's five steps meet to within a
    # third.
    expected = 1e-2 * 0.2 * max(before[name].shape) ** 0.5
    assert expected * 0.6 < float(moved.min())
    assert float(moved.max()) < expected * 1.3
    # AdamW's first step is the rate in each weight that has a gradient.
    head = (after["lm_head.weight"] - before["lm_head.weight"]).abs()
    torch.testing.assert_close(head.max(), torch.tensor(1e-3, dtype=head.dtype), rtol=1e-3, atol=0)


def test_the_schedule_scales_both_rates(tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    learner = Learner(tiny_model(), settings(warmup_steps=4), LearnerContext(total_steps=10))
    for factor in (0.25, 0.5):
        learner.supervised_step(random_samples(2))
        adamw, muon = learner._optimizer.inner.param_groups
        assert (adamw["lr"], muon["lr"]) == pytest.approx((1e-3 * factor, 1e-2 * factor))


def test_it_resumes_from_a_saved_folder(
    tiny_model: MakeModel, random_samples: MakeSamples, tmp_path: Path
) -> None:
    samples = random_samples(4)
    through, stopped, resumed = tiny_model(), tiny_model(), tiny_model()
    whole = Learner(through, settings(), LearnerContext(total_steps=10))
    for _ in range(3):
        whole.supervised_step(samples)
    first = Learner(stopped, settings(), LearnerContext(total_steps=10))
    first.supervised_step(samples)
    first.supervised_step(samples)
    first.save(tmp_path / "state")
    second = Learner(resumed, settings(), LearnerContext(total_steps=10))
    second.load(tmp_path / "state")
    second.supervised_step(samples)
    for name, weight in through.named_parameters():
        assert torch.equal(weight, resumed.get_parameter(name)), name


def test_the_state_of_another_optimizer_is_refused_and_nothing_changes(
    tiny_model: MakeModel, random_samples: MakeSamples, tmp_path: Path
) -> None:
    for saved, present in (({}, {"muon_learning_rate": None}), ({"muon_learning_rate": None}, {})):
        first = Learner(tiny_model(), settings(**saved), LearnerContext(total_steps=10))
        first.supervised_step(random_samples(4))
        folder = tmp_path / f"state-{len(saved)}"
        first.save(folder)
        model = tiny_model()
        before = weights_of(model)
        second = Learner(model, settings(**present), LearnerContext(total_steps=10))
        with pytest.raises(ValueError, match=r"of another optimizer, the state of .*_proj\.weight"):
            second.load(folder)
        assert torch.equal(weights_of(model), before)
        assert second.optimizer_steps_taken == 0


def test_it_needs_whole_matrices() -> None:
    with pytest.raises(
        ValidationError,
        match=r"muon_learning_rate: 0.01 needs whole matrices, which ranks: 2 share",
    ):
        settings(ranks=2)
    sections = {"run_folder": "r", "sft": {"muon_learning_rate": 0.01}, "learner": {"ranks": 2}}
    with pytest.raises(
        ValidationError, match=r"sft.muon_learning_rate: 0.01 needs .* learner.ranks: 2"
    ):
        Config.model_validate(sections)


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
