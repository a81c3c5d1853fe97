"""The objectives against reference vectors and by hand."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from agent_rl.objective.policy_loss import AgentTokens, log_bounds, policy_loss, shares
from agent_rl.objective.presets import (
    PRESETS,
    Normalisation,
    Objective,
    ObjectiveName,
)
from tests.builders.objectives import logs, run, tensor
from tests.builders.paths import VECTORS

CASES = [pytest.param(case, id=case["name"]) for case in json.loads(VECTORS.read_text())["cases"]]
GMPO, GRPO, GSPO, CISPO = (PRESETS[name] for name in ("gmpo", "grpo", "gspo", "cispo"))
EVERY = pytest.mark.parametrize(
    "objective", [pytest.param(value, id=name) for name, value in PRESETS.items()]
)


@pytest.mark.parametrize("case", CASES)
def test_gmpo_equals_the_reference(case: dict[str, Any]) -> None:
    mask = torch.tensor(case["mask"], dtype=torch.bool)
    row = torch.arange(len(mask))[:, None].expand(mask.shape)[mask]
    logp_new = tensor(case["logp_new"]).requires_grad_()
    share = shares(
        "sequence",
        row,
        # The reference divides by all rows, those without agent tokens included; our learner does
        # not count those.
        units=len(mask),
        tokens=max(len(row), 1),
        episodes=len(mask),
        length=1,
    )
    loss, _ = policy_loss(
        replace(GMPO, epsilon=case["eps_low"], epsilon_high=case["eps_high"]),
        AgentTokens(
            logp_new=logp_new[mask],
            logp_old=tensor(case["logp_old"])[mask],
            advantage=tensor(case["advantage"])[row],
            share=share,
            turn=row,
            episode=row,
            log_weight=torch.zeros_like(share),
        ),
    )
    (grad,) = torch.autograd.grad(loss, logp_new)
    torch.testing.assert_close(
        loss.detach(), tensor(case["closed"]["loss"]), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(grad, tensor(case["closed"]["grad"]), rtol=1e-12, atol=1e-12)


# Two episodes, of two and three tokens, with advantages 2 and -1.
RATIOS = [logs(1.1, 6.0), logs(0.5, 6.0, 1.0)]


UP, DOWN = math.exp(0.25), math.exp(0.1)


SEQUENCE = math.exp(2e-4)


BY_HAND: list[tuple[ObjectiveName, list[list[float]], float, list[float]]] = [
    # x = (0.1, 0.9 -> 0.4), w = e^0.25; x = (-0.9 -> -0.4, 0.2, 0.5), w = e^0.1.
    (
        "gmpo",
        [[0.1, 0.9], [-0.9, 0.2, 0.5]],
        (-2 * UP + DOWN) / 2,
        [-2 * UP / 4, 0.0, 0.0, DOWN / 6, DOWN / 6],
    ),
    # Power 1, as the schedule begins: the means 3.55 -> 1.2, and 2.5, which no bound cuts.
    (
        "holder",
        RATIOS,
        (-2 * 1.2 + 2.5) / 2,
        [0.0, 0.0, 0.5 / 6, 6.0 / 6, 1.0 / 6],
    ),
    # 6 -> 1.2 if the advantage is positive, else 6 stays; 0.5 -> 0.8 if it is negative.
    (
        "grpo",
        RATIOS,
        -2 * (1.1 + 1.2) / 4 + (0.8 + 6.0 + 1.0) / 6,
        [-2 * 1.1 / 4, 0.0, 0.0, 6.0 / 6, 1.0 / 6],
    ),
    # The same divided by 10 tokens and 2 episodes.
    (
        "dr_grpo",
        RATIOS,
        (-2 * (1.1 + 1.2) + (0.8 + 6.0 + 1.0)) / 20,
        [-2 * 1.1 / 20, 0.0, 0.0, 6.0 / 20, 1.0 / 20],
    ),
    # Divided by 5 tokens, and 6 -> 1.28.
    (
        "dapo",
        RATIOS,
        (-2 * (1.1 + 1.28) + (0.8 + 6.0 + 1.0)) / 5,
        [-2 * 1.1 / 5, 0.0, 0.0, 6.0 / 5, 1.0 / 5],
    ),
    # The mean 2e-4 is inside; the mean -0.01 is below log(1 - 3e-4), and then nothing of the
    # episode has a gradient.
    (
        "gspo",
        [[1e-4, 3e-4], [-0.1, 0.05, 0.02]],
        (-2 * SEQUENCE + (1 - 3e-4)) / 2,
        [-2 * SEQUENCE / 4, -2 * SEQUENCE / 4, 0.0, 0.0, 0.0],
    ),
    # Weights 1.1, 6 -> 5, and 0.5, 6 -> 5, 1, before log-probs log(ratio) - 1, over 5 tokens.
    (
        "cispo",
        RATIOS,
        (
            -2 * (1.1 * (math.log(1.1) - 1) + 5 * (math.log(6) - 1))
            + (0.5 * (math.log(0.5) - 1) + 5 * (math.log(6) - 1) - 1)
        )
        / 5,
        [-2 * 1.1 / 5, -2 * 5.0 / 5, 0.5 / 5, 5.0 / 5, 1.0 / 5],
    ),
    # Nothing is clipped; 10 tokens and 2 episodes.
    (
        "rloo",
        RATIOS,
        (-2 * 7.1 + 7.5) / 20,
        [-2 * 1.1 / 20, -2 * 6.0 / 20, 0.5 / 20, 6.0 / 20, 1.0 / 20],
    ),
    (
        "reinforce",
        RATIOS,
        (-2 * 7.1 + 7.5) / 20,
        [-2 * 1.1 / 20, -2 * 6.0 / 20, 0.5 / 20, 6.0 / 20, 1.0 / 20],
    ),
]


@pytest.mark.parametrize(("name", "x", "loss", "grad"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_a_preset_by_hand(
    name: ObjectiveName, x: list[list[float]], loss: float, grad: list[float]
) -> None:
    got = run(PRESETS[name], x, [2.0, -1.0])
    assert got.loss == pytest.approx(loss, abs=1e-12)
    assert got.grad.tolist() == pytest.approx(grad, abs=1e-12)


def test_every_preset_is_checked_by_hand() -> None:
    assert {case[0] for case in BY_HAND} == set(PRESETS)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("gmpo", [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]),
        ("grpo", [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]),
        ("gspo", [0, 0, 1, 1, 1], [1, 1, 0, 0, 0]),
        ("cispo", [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ("reinforce", [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    ],
)
def test_clips_are_reported_for_each_side(
    name: ObjectiveName, low: list[int], high: list[int]
) -> None:
    got = run(PRESETS[name], [[0.1, 0.9], [-0.9, 0.2, 0.5]], [2.0, -1.0])
    assert got.clipped.low.tolist() == low
    assert got.clipped.high.tolist() == high


def test_a_sequence_is_clipped_on_the_side_that_its_advantage_leaves_open_only() -> None:
    # Means 0.03 and -0.01 again, but with the advantages' signs exchanged: nothing is cut off.
    got = run(GSPO, [[0.02, 0.04], [-0.03, 0.01]], [-1.0, 1.0])
    assert got.loss == pytest.approx((math.exp(0.03) - math.exp(-0.01)) / 2)
    torch.testing.assert_close(
        got.grad, tensor([math.exp(0.03) / 4] * 2 + [-math.exp(-0.01) / 4] * 2)
    )


@EVERY
@pytest.mark.parametrize("x", [1000.0, -1000.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("log_weight", [0.0, 1000.0])
def test_an_episode_with_advantage_zero_contributes_exactly_nothing(
    objective: Objective, x: float, log_weight: float
) -> None:
    alone = run(objective, [[0.1, 0.3], [0.0, 0.0]], [1.0, 0.0])
    got = run(objective, [[0.1, 0.3], [x, 0.1]], [1.0, 0.0], log_weight=[0.0, 0.0, log_weight, 0.0])
    assert got.loss == alone.loss
    assert got.grad.tolist() == [*alone.grad[:2].tolist(), 0.0, 0.0]
    assert not (got.clipped.low | got.clipped.high)[2:].any()


@pytest.mark.parametrize(
    "objective", [GMPO, GRPO, GSPO, replace(GMPO, power=2.0), replace(GMPO, power=-2.0)]
)
def test_a_clipped_ratio_beyond_floating_point_leaves_a_clean_gradient(
    objective: Objective,
) -> None:
    got = run(objective, [[1000.0, 0.1]], [1.0])
    assert math.isfinite(got.loss)
    assert got.grad[0] == 0.0
    assert got.grad[1] < 0.0 or objective is GSPO


def test_asymmetric_bounds_are_not_swapped() -> None:
    objective = replace(GMPO, epsilon=0.1, epsilon_high=0.5)
    up, down = run(objective, [[0.3]], [1.0]), run(objective, [[-0.3]], [-1.0])
    assert [up.loss, *up.grad.tolist()] == pytest.approx([-math.exp(0.3), -math.exp(0.3)])
    assert [down.loss, *down.grad.tolist()] == pytest.approx([math.exp(-0.1), 0.0])


@pytest.mark.parametrize(
    ("objective", "bounds"),
    [
        (replace(GMPO, epsilon=0.1, epsilon_high=0.5), (-0.1, 0.5)),
        (PRESETS["dapo"], (math.log(0.8), math.log(1.28))),
        (CISPO, (-math.inf, math.log(5.0))),
        (replace(GMPO, clip="none"), (-math.inf, math.inf)),
    ],
)
def test_the_bounds_of_a_log_ratio(objective: Objective, bounds: tuple[float, float]) -> None:
    assert log_bounds(objective) == pytest.approx(bounds)


def test_on_policy_the_gradient_is_that_of_grpo() -> None:
    zeros = [[0.0, 0.0, 0.0], [0.0, 0.0]]
    ours, theirs = run(GMPO, zeros, [1.5, -0.7]), run(GRPO, zeros, [1.5, -0.7])
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-15)
    assert ours.loss == pytest.approx(theirs.loss)
    torch.testing.assert_close(ours.grad, tensor([-1.5 / 6] * 3 + [0.7 / 4] * 2))


def test_turn_aggregation_is_episode_aggregation_with_turns_for_episodes() -> None:
    first, second = [0.1, 0.9], [-0.2, 0.3, -0.6]
    by_turn = run(
        replace(GMPO, aggregation="turn"), [first + second], [1.0], turns=[[0, 0, 1, 1, 1]]
    )
    rows = run(GMPO, [first, second], [1.0, 1.0])
    assert by_turn.loss == pytest.approx(rows.loss)
    torch.testing.assert_close(by_turn.grad, rows.grad)
    assert by_turn.loss != pytest.approx(run(GMPO, [first + second], [1.0]).loss)


def test_each_turn_may_have_its_own_advantage() -> None:
    # Advantages 1 and -2 of two turns of one token each, as `turn_groups` gives them.
    tokens = AgentTokens(
        logp_new=tensor([0.1, 0.2]),
        logp_old=tensor([0.0, 0.0]),
        advantage=tensor([1.0, -2.0]),
        share=tensor([0.5, 0.5]),
        turn=torch.tensor([0, 1]),
        episode=torch.tensor([0, 0]),
        log_weight=tensor([0.0, 0.0]),
    )
    for aggregation in ("turn", "token"):
        loss, _ = policy_loss(replace(GMPO, aggregation=aggregation), tokens)
        assert loss.item() == pytest.approx((-math.exp(0.1) + 2 * math.exp(0.2)) / 2)


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("sequence", [1 / 2 / 4, 1 / 2 / 4, 1 / 3 / 4, 1 / 3 / 4, 1 / 3 / 4]),
        ("token", [1 / 8] * 5),
        ("constant", [1 / 10 / 3] * 5),
    ],
)
def test_the_shares_are_those_of_the_whole_optimizer_step(
    normalisation: Normalisation, expected: list[float]
) -> None:
    unit = torch.tensor([0, 0, 2, 2, 2])
    got = shares(normalisation, unit, units=4, tokens=8, episodes=3, length=10)
    assert got.tolist() == pytest.approx(expected)


def test_an_optimizer_step_without_agent_tokens_has_no_shares() -> None:
    with pytest.raises(AssertionError):
        shares(
            "token", torch.tensor([], dtype=torch.long), units=0, tokens=0, episodes=0, length=10
        )


def test_gmpo_averages_the_log_weights_inside_the_geometric_mean() -> None:
    got = run(GMPO, [[0.1, 0.9]], [1.0], log_weight=[0.3, -0.1])
    weight = math.exp((0.1 + 0.4 + 0.3 - 0.1) / 2)
    assert got.loss == pytest.approx(-weight)
    torch.testing.assert_close(got.grad, tensor([-weight / 2, 0.0]))


def test_grpo_weighs_each_token() -> None:
    got = run(GRPO, [logs(1.1, 1.5)], [1.0], log_weight=logs(2.0, 0.5))
    assert got.loss == pytest.approx(-(1.1 * 2.0 + 1.2 * 0.5) / 2)
    torch.testing.assert_close(got.grad, tensor([-1.1 * 2.0 / 2, 0.0]))


def test_gspo_weighs_after_the_clip() -> None:
    # The mean 0.2 is clipped to log(1.0004); the weights' geometric mean is sqrt(2 * 0.5) = 1, then
    # sqrt(2 * 4).
    for weights, mean in (([2.0, 0.5], 1.0), ([2.0, 4.0], math.sqrt(8.0))):
        got = run(GSPO, [[0.1, 0.3]], [1.0], log_weight=logs(*weights))
        assert got.loss == pytest.approx(-1.0004 * mean)
        assert got.grad.tolist() == [0.0, 0.0]


def test_cispo_weighs_beyond_its_clip() -> None:
    # 6 -> 5 is the clip's, times 2 is the sampler's.
    got = run(CISPO, [logs(6.0)], [1.0], log_weight=logs(2.0))
    assert got.loss == pytest.approx(-10.0 * (math.log(6.0) - 1))
    assert got.grad.tolist() == pytest.approx([-10.0])


def test_the_dual_clip_by_hand() -> None:
    # Of the second episode, 6 is above 3: the loss term is 3 |A|, without a gradient. In the first
    # one, whose advantage is positive, 6 is cut to 1.2 as ever.
    got = run(replace(GRPO, clip_c=3.0), RATIOS, [2.0, -1.0])
    assert got.loss == pytest.approx(-2 * (1.1 + 1.2) / 4 + (0.8 + 3.0 + 1.0) / 6)
    assert got.grad.tolist() == pytest.approx([-2 * 1.1 / 4, 0.0, 0.0, 0.0, 1.0 / 6])
    assert got.clipped.low.tolist() == [False, False, True, False, False]
    assert got.clipped.high.tolist() == [False, True, False, False, False]
    assert got.clipped.dual.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("x", [1000.0, math.inf])
def test_the_dual_clip_bounds_what_no_number_can_hold(x: float) -> None:
    got = run(replace(GRPO, clip_c=3.0), [[x, 0.0]], [-1.0])
    assert got.loss == pytest.approx((3.0 + 1.0) / 2)
    assert got.grad.tolist() == pytest.approx([0.0, 0.5])
    assert math.isinf(run(GRPO, [[x, 0.0]], [-1.0]).loss)


def test_a_dual_clip_above_every_ratio_changes_nothing() -> None:
    plain, dual = (
        run(GRPO, RATIOS, [2.0, -1.0]),
        run(replace(GRPO, clip_c=6.1), RATIOS, [2.0, -1.0]),
    )
    assert (dual.loss, dual.grad.tolist()) == (plain.loss, plain.grad.tolist())
