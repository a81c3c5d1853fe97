"""The power mean: by hand, against mpmath, and at its two published ends."""

import math
import random
from dataclasses import replace

import mpmath
import pytest
import torch
from torch import Tensor

from agent_rl.objective.policy_loss import log_power_mean
from agent_rl.objective.presets import PRESETS, Aggregation, Clip, Normalisation, Objective
from tests.builders.objectives import logs, run, tensor

GMPO, GRPO, HOLDER = (PRESETS[name] for name in ("gmpo", "grpo", "holder"))
ONE = torch.zeros(2, dtype=torch.long)
POWERS = [-50.0, -2.0, -1.0, -1e-3, -1e-9, -1e-17, 1e-300, 1e-12, 1e-6, 0.3, 1.0, 2.0, 50.0]


@pytest.mark.parametrize(
    ("ratios", "power", "mean"),
    [
        ((1.0, 3.0), 1.0, 2.0),
        ((1.0, 4.0), 0.0, 2.0),
        ((2.0, 6.0), -1.0, 3.0),  # 2 / (1/2 + 1/6)
        ((1.0, 7.0), 2.0, 5.0),  # sqrt((1 + 49) / 2)
        ((1.0, 9.0), 0.5, 4.0),  # ((1 + 3) / 2)^2
        ((1.0, 1 / 7), -2.0, 0.2),
        ((5.0, 5.0), 3.0, 5.0),
    ],
)
def test_means_by_hand(ratios: tuple[float, float], power: float, mean: float) -> None:
    got = log_power_mean(tensor(logs(*ratios)), ONE, power).exp()
    assert got.tolist() == pytest.approx([mean, mean], rel=1e-14)


def test_each_unit_has_its_own_mean() -> None:
    unit = torch.tensor([2, 0, 2, 0, 5])
    got = log_power_mean(tensor(logs(1.0, 2.0, 3.0, 4.0, 9.0)), unit, 1.0).exp()
    assert got.tolist() == pytest.approx([2.0, 3.0, 2.0, 3.0, 9.0])
    assert log_power_mean(tensor([]), torch.tensor([], dtype=torch.long), 1.0).shape == (0,)


def drawn(spread: float, count: int) -> list[float]:
    rng = random.Random(count)
    return [rng.gauss(0.0, spread) for _ in range(count)]


def with_gradient(x: list[float], power: float) -> tuple[float, Tensor]:
    leaf = tensor(x).requires_grad_()
    mean = log_power_mean(leaf, torch.zeros(len(x), dtype=torch.long), power)[0]
    (grad,) = torch.autograd.grad(mean, leaf)
    return mean.item(), grad


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize(("spread", "count"), [(1e-4, 5), (0.3, 40), (30.0, 7)])
def test_it_is_the_mean_of_mpmath(power: float, spread: float, count: int) -> None:
    """With 400 digits, of which a power of 1e-300 loses 300."""
    x = drawn(spread, count)
    with mpmath.workdps(400):
        terms = [mpmath.exp(mpmath.mpf(power) * mpmath.mpf(value)) for value in x]
        expected = float(mpmath.log(mpmath.fsum(terms) / count) / mpmath.mpf(power))
        parts = [float(term / mpmath.fsum(terms)) for term in terms]
    got, grad = with_gradient(x, power)
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-13 * spread)
    assert grad.tolist() == pytest.approx(parts, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("power", [-3.0, 3.0])
def test_nothing_overflows_and_float32_keeps_its_digits(power: float) -> None:
    x = [0.0, 1000.0, -1000.0]
    extreme = math.copysign(1000.0, power)
    got, grad = with_gradient(x, power)
    assert got == pytest.approx(extreme - math.log(3) / power, rel=1e-14)
    assert grad.tolist() == [0.0, float(power > 0), float(power < 0)]
    many = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    unit = torch.zeros(len(many), dtype=torch.long)
    single = log_power_mean(20 * many, unit, power)
    assert single.dtype == torch.float32
    double = log_power_mean((20 * many).double(), unit, power)
    torch.testing.assert_close(single, double.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("x", [math.nan, math.inf])
def test_what_is_not_finite_stays_so(x: float) -> None:
    assert not log_power_mean(tensor([0.0, x]), ONE, 1.0).isfinite().any()


X = [[0.1, 0.9, -0.7], [-0.9, 0.2, 0.5, 2.0], [0.05, -0.3]]
ADVANTAGES = [2.0, -1.0, -0.5]
WEIGHTS = [0.3, -0.1, 0.0, 0.6, -0.4, 0.2, 0.1, 0.0, -0.2]
TURNS = [[0, 0, 1], [2, 3, 3, 3], [4, 5]]


def assert_same(ours: Objective, theirs: Objective) -> None:
    got = run(ours, X, ADVANTAGES, turns=TURNS, log_weight=WEIGHTS)
    expected = run(theirs, X, ADVANTAGES, turns=TURNS, log_weight=WEIGHTS)
    assert got.loss == pytest.approx(expected.loss, rel=0, abs=1e-10)
    torch.testing.assert_close(got.grad, expected.grad, rtol=0, atol=1e-10)
    for side in ("low", "high"):
        assert torch.equal(getattr(got.clipped, side), getattr(expected.clipped, side))


@pytest.mark.parametrize("normalisation", ["sequence", "token", "constant"])
@pytest.mark.parametrize("clip", ["log", "ratio", "none"])
def test_power_1_is_grpo(clip: Clip, normalisation: Normalisation) -> None:
    """With every divisor that is the same for all tokens of an episode, so with all three."""
    grpo = replace(GRPO, clip=clip, normalisation=normalisation)
    assert_same(replace(grpo, aggregation="episode", power=1.0), grpo)


@pytest.mark.parametrize("power", [0.0, 1e-13, -1e-13])
@pytest.mark.parametrize("aggregation", ["episode", "turn"])
def test_power_0_is_gmpo(power: float, aggregation: Aggregation) -> None:
    gmpo = replace(GMPO, aggregation=aggregation)
    assert_same(replace(gmpo, power=power), gmpo)


def test_power_0_of_sequences_is_gspo_with_their_bounds() -> None:
    assert_same(replace(HOLDER, power=0.0), replace(PRESETS["gspo"], epsilon=0.2, epsilon_high=0.2))


def test_the_larger_the_power_the_more_the_largest_ratio_counts() -> None:
    parts = []
    for power in (-2.0, -1.0, 0.0, 1.0, 2.0):
        got = run(replace(GMPO, clip="none", power=power), [logs(1.0, 3.0)], [1.0])
        parts.append(float(got.grad[1] / got.grad.sum()))
    assert parts == pytest.approx([1 / 10, 1 / 4, 1 / 2, 3 / 4, 9 / 10])


def test_the_gradient_by_hand() -> None:
    """w is the harmonic mean; each token has its part of the sum of 1 / ratio, 0 if it is cut."""
    objective = replace(GMPO, clip="ratio", epsilon_high=1.0, power=-1.0)
    # Ratios 1, 0.5, and 6 cut to 2: w = 3 / (1 + 2 + 0.5).
    got = run(objective, [logs(1.0, 0.5, 6.0)], [2.0])
    w = 3 / 3.5
    assert got.loss == pytest.approx(-2 * w)
    assert got.grad.tolist() == pytest.approx([-2 * w * 1 / 3.5, -2 * w * 2 / 3.5, 0.0])
    assert got.clipped.high.tolist() == [False, False, True]


def test_the_importance_weights_are_in_the_mean() -> None:
    # Ratios 1.1 and 1.2, the second one cut; weights 2 and 0.5.
    objective = replace(GRPO, aggregation="episode", power=2.0)
    got = run(objective, [logs(1.1, 1.5)], [1.0], log_weight=logs(2.0, 0.5))
    assert got.loss == pytest.approx(-math.sqrt((2.2**2 + 0.6**2) / 2))
    # A sequence's mean, sqrt((1 + 1.21) / 2), is inside; its weights' is sqrt((4 + 0.25) / 2).
    got = run(replace(HOLDER, power=2.0), [logs(1.0, 1.1)], [1.0], log_weight=logs(2.0, 0.5))
    assert got.loss == pytest.approx(-math.sqrt(2.21 / 2) * math.sqrt(4.25 / 2))


def test_the_power_moves_linearly_over_the_run() -> None:
    assert [HOLDER.at(done).power for done in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.5, 0.0, -1.0]
    assert HOLDER.at(0.5).power_end is None
    assert GMPO.at(0.5) == GMPO
