import math
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from agent_rl.config.learner import LearnerSettings
from agent_rl.objective.presets import PRESETS, Importance, ObjectiveName


def learner(**values: Any) -> LearnerSettings:
    return LearnerSettings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "key", "way_out"),
    [
        (
            {"objective": "rloo", "epsilon": 0.2},
            "epsilon: 0.2 has no effect with objective: rloo",
            "remove it, or set",
        ),
        (
            {"clip": "none", "epsilon_high": 0.3},
            "epsilon_high: 0.3 has no effect",
            "clip none.*remove it, or set clip",
        ),
        (
            {"objective": "grpo", "power": 0.0},
            r"power: 0.0 has no effect with objective: grpo \(aggregation token",
            "remove it, or use aggregation: turn, episode or sequence",
        ),
        (
            {"objective": "dapo", "power_end": -1.0},
            "power_end: -1.0 has no effect with objective: dapo",
            "remove it, or use aggregation: turn",
        ),
        (
            {"clip_c": 3.0},
            r"clip_c: 3.0 bounds the ratio of a token, but in objective: gmpo \(aggregation epi",
            "remove it, or use aggregation: token",
        ),
        (
            {"objective": "gspo", "clip_c": 3.0},
            "clip_c: 3.0 bounds the ratio of a token, but in objective: gspo",
            "use aggregation: token",
        ),
        (
            {"objective": "cispo", "clip_c": 3.0},
            "clip_c: 3.0 has no effect with objective: cispo",
            "whose epsilon_high bounds every ratio; remove it, or use clip: ratio",
        ),
        (
            {"objective": "rloo", "clip_c": 3.0},
            "clip_c: 3.0 has no effect with objective: rloo",
            "remove it, or set clip",
        ),
        ({"objective": "grpo", "clip_c": 1.0}, "clip_c", "greater than 1"),
        ({"off_policy_mask": 0.0}, "off_policy_mask", "greater than 0"),
        ({"power": math.inf}, "power", "finite number"),
        ({"power_end": math.nan}, "power_end", "finite number"),
        (
            {"objective": "cispo", "aggregation": "turn"},
            "clip: weight goes with aggregation: token",
            "aggregation turn",
        ),
        ({"clip": "weight"}, "clip: weight goes with aggregation: token", "aggregation episode"),
        (
            {"objective": "grpo", "epsilon": 1.5},
            "epsilon: 1.5 leaves no lower bound",
            "use at most 1",
        ),
        (
            {"objective": "cispo", "epsilon": 1.5},
            "epsilon: 1.5 leaves no lower bound",
            "use at most 1",
        ),
        ({"clip": "ratio", "epsilon": 1.5}, "epsilon: 1.5 leaves no lower bound", "use at most 1"),
        (
            {"objective": "grpo", "normalisation_length": 9},
            "normalisation_length: 9 has no effect with normalisation: sequence",
            "remove it, or use constant",
        ),
        (
            {"objective": "dr_grpo", "normalisation": "token", "normalisation_length": 9},
            "normalisation_length: 9 has no effect with normalisation: token",
            "remove it, or use constant",
        ),
        (
            {"turn_discount": 0.9},
            "turn_discount: 0.9 has no effect with advantage: group_std",
            "use turn_groups",
        ),
        (
            {"objective": "rloo", "turn_advantage_weight": 0.0},
            "turn_advantage_weight: 0.0 has no effect with advantage: leave_one_out",
            "remove it, or use turn_groups",
        ),
        ({"invalid_turn_penalty": 0.0}, "invalid_turn_penalty", "greater than 0"),
        (
            {"objective": "grpo", "invalid_turn_penalty": 0.1},
            "invalid_turn_penalty: 0.1 has no effect with advantage: group_std",
            "remove it, or use turn_weighted",
        ),
        (
            {"advantage": "turn_weighted", "invalid_turn_penalty": 0.1},
            "invalid_turn_penalty: 0.1 gives each turn an advantage, but aggregation: episode",
            "use aggregation: turn or token",
        ),
        (
            {"objective": "gspo", "advantage": "turn_weighted", "invalid_turn_penalty": 0.1},
            "invalid_turn_penalty: 0.1 gives each turn an advantage, but aggregation: sequence",
            "use aggregation: turn or token",
        ),
        (
            {"advantage": "turn_groups"},
            "advantage: turn_groups .* aggregation: episode",
            "aggregation: turn or token",
        ),
        (
            {"objective": "gspo", "advantage": "turn_groups"},
            "advantage: turn_groups .* aggregation: sequence",
            "aggregation: turn or token",
        ),
        (
            {"old_logprobs": "sampler", "importance": "token"},
            "importance: token has no effect",
            "old_logprobs: learner",
        ),
        (
            {"old_logprobs": "sampler", "importance_cap": 2.0},
            "importance_cap: 2.0 has no effect with old_logprobs: sampler",
            "remove it, or use old_logprobs: learner",
        ),
        (
            {"old_logprobs": "sampler", "importance_cap": 0.0},
            "importance_cap: 0.0 has no effect",
            "remove it, or use",
        ),
        (
            {"old_logprobs": "sampler", "importance_mask": 2.0},
            "importance_mask: 2.0 has no effect",
            "remove it, or use",
        ),
        (
            {"importance": "none", "importance_cap": 2.0},
            "importance_cap: 2.0 has no effect",
            "importance: none; remove",
        ),
        (
            {"importance": "none", "importance_cap": 0.0},
            "importance_cap: 0.0 has no effect",
            "importance: none; remove",
        ),
        (
            {"importance": "none", "importance_mask": 2.0},
            "importance_mask: 2.0 has no effect",
            "none; remove it",
        ),
        (
            {"importance_cap": 5.0, "importance_mask": 2.0},
            "importance_cap: 5.0 has no effect",
            "importance_mask: 2.0",
        ),
        ({"importance_cap": 0.5}, "importance_cap: 0.5 would shrink", "use 0 .* or at least 1"),
        (
            {"importance_mask": 1.0},
            "importance_mask: 1.0 would leave everything out",
            "use 0 .* or more than 1",
        ),
        (
            {"turns_per_step": 256, "schedule": "linear"},
            "schedule: linear would not know the end",
            "use schedule: constant",
        ),
        (
            {"turns_per_step": 256, "power": 1.0, "power_end": -1.0},
            "power would not reach power_end",
            "leave one of them out",
        ),
        ({"probe_every": 5}, "probe_every: 5 has no effect without a probe", "set probe"),
        ({"betas": (0.9, 1.0)}, r"betas: \[0.9, 1.0\]", r"must lie in \[0, 1\)"),
    ],
)
def test_a_key_without_effect_is_refused_with_the_remedy(
    values: dict[str, Any], key: str, way_out: str
) -> None:
    with pytest.raises(ValidationError, match=f"(?s){key}.*{way_out}"):
        learner(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"objective": "rloo", "clip": "ratio", "epsilon": 0.2},
        {"objective": "cispo", "epsilon": 1.0},
        {"objective": "grpo", "clip_c": 3.0},
        {"objective": "grpo", "clip": "log", "clip_c": 3.0},
        {"objective": "grpo", "aggregation": "episode", "power": 1.0, "power_end": -1.0},
        {"objective": "gspo", "power": -1.0},
        {"epsilon": 1.5},
        {"objective": "grpo", "epsilon": 0.2, "epsilon_high": 1.5},
        {"clip": "weight", "aggregation": "token"},
        {"normalisation": "constant", "normalisation_length": 9},
        {
            "objective": "grpo",
            "advantage": "turn_groups",
            "turn_discount": 0.9,
            "turn_advantage_weight": 0.0,
        },
        {"aggregation": "turn", "advantage": "turn_groups"},
        {"objective": "grpo", "advantage": "turn_weighted", "invalid_turn_penalty": 0.1},
        {"aggregation": "turn", "advantage": "turn_weighted", "invalid_turn_penalty": 0.1},
        {"importance": "sequence", "importance_cap": 0.0, "importance_mask": 2.0},
        {"importance_cap": 1.0, "importance_mask": 2.0},
        {"old_logprobs": "sampler"},
    ],
)
def test_keys_with_an_effect_are_accepted_and_survive_a_round_trip(values: dict[str, Any]) -> None:
    settings = learner(**values)
    assert LearnerSettings.model_validate(settings.model_dump()) == settings
    assert LearnerSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("name", PRESETS)
def test_the_name_alone_chooses_the_preset(name: ObjectiveName) -> None:
    settings = learner(objective=name)
    assert settings.chosen_objective == PRESETS[name]
    assert LearnerSettings.model_validate(settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("name", "parts", "epsilons"),
    [
        ("gmpo", ("episode", "log", "sequence", "group_std"), (0.4, 0.4)),
        ("holder", ("sequence", "ratio", "sequence", "group_std"), (0.2, 0.2)),
        ("grpo", ("token", "ratio", "sequence", "group_std"), (0.2, 0.2)),
        ("dr_grpo", ("token", "ratio", "constant", "group_mean"), (0.2, 0.2)),
        ("dapo", ("token", "ratio", "token", "group_std"), (0.2, 0.28)),
        ("gspo", ("sequence", "ratio", "sequence", "group_std"), (3e-4, 4e-4)),
        ("cispo", ("token", "weight", "token", "group_std"), (1.0, 4.0)),
        ("rloo", ("token", "none", "constant", "leave_one_out"), (0.0, 0.0)),
        ("reinforce", ("token", "none", "constant", "group_mean"), (0.0, 0.0)),
    ],
)
def test_the_presets_are_as_published(
    name: ObjectiveName, parts: tuple[str, ...], epsilons: tuple[float, float]
) -> None:
    preset = PRESETS[name]
    assert (preset.aggregation, preset.clip, preset.normalisation, preset.advantage) == parts
    assert (preset.epsilon, preset.epsilon_high) == epsilons
    assert preset.source
    powers = (1.0, -1.0) if name == "holder" else (0.0, None)
    assert (preset.power, preset.power_end, preset.clip_c) == (*powers, 0.0)


def test_a_part_replaces_the_presets() -> None:
    chosen = learner(
        aggregation="turn", normalisation="token", advantage="group_mean"
    ).chosen_objective
    expected = replace(
        PRESETS["gmpo"], aggregation="turn", normalisation="token", advantage="group_mean"
    )
    assert chosen == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"objective": "dapo"}, (0.2, 0.28)),
        ({"objective": "dapo", "epsilon": 0.1}, (0.1, 0.1)),
        ({"objective": "dapo", "epsilon_high": 0.5}, (0.2, 0.5)),
        ({"objective": "dapo", "epsilon": 0.1, "epsilon_high": 0.5}, (0.1, 0.5)),
        ({"objective": "dapo", "clip": "ratio"}, (0.2, 0.28)),
        # The preset's bounds do not fit another kind of clip: they come from the preset known for
        # that kind.
        ({"objective": "dapo", "clip": "log"}, (0.4, 0.4)),
        ({"objective": "gmpo", "clip": "ratio"}, (0.2, 0.2)),
        ({"objective": "gmpo", "clip": "ratio", "epsilon": 0.1}, (0.1, 0.1)),
        ({"objective": "rloo", "clip": "ratio", "epsilon_high": 0.3}, (0.2, 0.3)),
        ({"objective": "rloo", "clip": "log", "epsilon": 0.1, "epsilon_high": 0.3}, (0.1, 0.3)),
        ({"objective": "grpo", "clip": "weight"}, (1.0, 4.0)),
        ({"objective": "rloo", "clip": "weight"}, (1.0, 4.0)),
        ({"objective": "rloo", "clip": "weight", "epsilon_high": 2.0}, (1.0, 2.0)),
        ({"objective": "gmpo", "clip": "none"}, (0.0, 0.0)),
    ],
)
def test_the_bounds_that_are_chosen(values: dict[str, Any], expected: tuple[float, float]) -> None:
    chosen = learner(**values).chosen_objective
    assert (chosen.epsilon, chosen.epsilon_high) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (0.0, None)),
        ({"power": 1.0}, (1.0, None)),
        ({"power_end": -1.0}, (0.0, -1.0)),
        ({"power": 1.0, "power_end": -1.0}, (1.0, -1.0)),
        ({"objective": "holder"}, (1.0, -1.0)),
        ({"objective": "holder", "power": 2.0}, (2.0, None)),
        ({"objective": "holder", "power_end": -2.0}, (1.0, -2.0)),
    ],
)
def test_the_powers_that_are_chosen(
    values: dict[str, Any], expected: tuple[float, float | None]
) -> None:
    chosen = learner(**values).chosen_objective
    assert (chosen.power, chosen.power_end) == expected


def test_the_dual_clip_that_is_chosen() -> None:
    assert learner(objective="grpo", clip_c=3.0).chosen_objective.clip_c == 3.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Importance(level="token", cap=2.0)),
        ({"importance": "geometric"}, Importance(level="geometric", cap=2.0)),
        ({"importance_cap": 0.0}, Importance(level="token")),
        ({"importance_cap": 3.0}, Importance(level="token", cap=3.0)),
        (
            {"importance": "sequence", "importance_mask": 5.0},
            Importance(level="sequence", cap=2.0, mask=5.0),
        ),
        ({"importance": "none"}, Importance()),
        ({"old_logprobs": "sampler"}, Importance()),
    ],
)
def test_how_the_samplers_mismatch_is_corrected(
    values: dict[str, Any], expected: Importance
) -> None:
    assert learner(**values).chosen_importance == expected


@pytest.mark.parametrize(
    "key", ["epsilon", "epsilon_high", "beta", "importance_cap", "importance_mask", "turn_discount"]
)
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_a_number_out_of_range_is_an_error_at_its_key(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        learner(**{key: value})


@pytest.mark.parametrize("key", ["scope", "clip_low", "tis_cap"])
def test_an_unknown_key_is_an_error(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        learner(**{key: 1})


def test_logits_of_a_chunk_take_a_quarter_of_a_gibibyte() -> None:
    assert learner().most_logit_rows(65536) == 1024
    assert learner().most_logit_rows(2**40) == 1
    assert learner(logit_chunk=7).most_logit_rows(65536) == 7


def test_turns_decide_the_number_of_optimizer_steps_up_to_the_most() -> None:
    settings = learner(optimizer_steps=25, turns_per_step=256)
    found = [settings.steps_of_update(turns) for turns in (1, 256, 257, 6400, 7000)]
    assert found == [1, 1, 2, 25, 25]
    assert learner(optimizer_steps=3).steps_of_update(7000) == 3
