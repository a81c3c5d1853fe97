"""Importance weights and the KL estimate, by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.objective.policy_loss import (
    importance_weights,
    kl_k3,
    off_policy_mask,
)
from agent_rl.objective.presets import (
    Importance,
    ImportanceName,
)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("level", "cap", "expected"),
    [
        ("none", 2.0, [0.0, 0.0, 0.0, 0.0]),
        ("token", 0.0, [0.5, -3.0, 0.9, 0.2]),
        ("token", 2.0, [0.5, -3.0, math.log(2.0), 0.2]),
        ("sequence", 0.0, [-2.5, -2.5, 1.1, 1.1]),
        ("sequence", 2.0, [-2.5, -2.5, math.log(2.0), math.log(2.0)]),
        ("geometric", 0.0, [-1.25, -1.25, 0.55, 0.55]),
        ("geometric", 1.5, [-1.25, -1.25, math.log(1.5), math.log(1.5)]),
    ],
)
def test_importance_weights_are_capped_above_only_and_carry_no_gradient(
    level: ImportanceName, cap: float, expected: list[float]
) -> None:
    old = tensor([0.0, -3.0, -1.1, 0.0]).requires_grad_()
    sampler = tensor([-0.5, 0.0, -2.0, -0.2])
    weights = importance_weights(
        Importance(level=level, cap=cap), old, sampler, torch.tensor([0, 0, 1, 1])
    )
    assert weights.log_weight.tolist() == pytest.approx(expected)
    assert weights.kept.all()
    is_cut = [cap > 0.0 and value == pytest.approx(math.log(cap)) for value in expected]
    assert weights.capped.tolist() == is_cut
    assert not weights.log_weight.requires_grad


@pytest.mark.parametrize(
    ("level", "mask", "expected"),
    [
        ("token", 2.0, [True, False, False, True]),  # ratios e^0.5, e^-3, e^0.9, e^0.2
        ("token", 3.0, [True, False, True, True]),
        ("sequence", 4.0, [False, False, True, True]),  # e^-2.5 and e^1.1
        ("geometric", 1.8, [False, False, True, True]),  # e^-1.25 and e^0.55
        ("geometric", 1.5, [False, False, False, False]),
    ],
)
def test_weights_beyond_the_mask_or_below_its_inverse_are_not_kept(
    level: ImportanceName, mask: float, expected: list[bool]
) -> None:
    old, sampler = tensor([0.0, -3.0, -1.1, 0.0]), tensor([-0.5, 0.0, -2.0, -0.2])
    weights = importance_weights(
        Importance(level=level, mask=mask), old, sampler, torch.tensor([0, 0, 1, 1])
    )
    assert weights.kept.tolist() == expected
    assert not weights.capped.any()


@pytest.mark.parametrize("level", ["none", "token", "sequence", "geometric"])
@pytest.mark.parametrize("mask", [0.0, 2.0])
def test_a_log_prob_that_is_not_a_number_is_not_left_out_in_silence(
    level: ImportanceName, mask: float
) -> None:
    importance = Importance(level=level, cap=2.0, mask=mask)
    weights = importance_weights(importance, tensor([0.0]), tensor([math.nan]), torch.tensor([0]))
    assert weights.kept.tolist() == [True]
    assert level == "none" or math.isnan(weights.log_weight.item())


def test_only_kept_tokens_count_as_capped() -> None:
    # Ratios 1, 1.5, 2 and 4 with a cap of 1 and a mask of 3: one that is exactly at the cap is not
    # cut, and one beyond the mask is left out.
    old, sampler = tensor([1.0, 1.5, 2.0, 4.0]).log(), tensor([0.0] * 4)
    weights = importance_weights(
        Importance(level="token", cap=1.0, mask=3.0), old, sampler, torch.tensor([0, 0, 1, 1])
    )
    assert weights.capped.tolist() == [False, True, True, False]
    assert weights.kept.tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("logp", "reference", "expected"),
    [
        (-1.0, -1.0, 0.0),
        (-1.0, math.log(2.0) - 1.0, 1.0 - math.log(2.0)),
        (0.0, -0.5, math.exp(-0.5) - 0.5),
    ],
)
def test_k3_by_hand(logp: float, reference: float, expected: float) -> None:
    assert kl_k3(tensor([logp]), tensor([reference])).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("difference", [1e-2, -1e-3, 1e-4])
def test_k3_keeps_its_digits_if_the_policies_are_close(difference: float) -> None:
    # Close to 0 it is half the square, and single precision must not make it 0 or negative.
    got = kl_k3(torch.tensor([0.0]), torch.tensor([difference])).item()
    assert got == pytest.approx(difference**2 / 2, rel=0.02)


def test_the_off_policy_mask_by_hand() -> None:
    # Means of log(sampler / new): 0.5, 0.5, and 0.4. NaN is kept: it must stop the run.
    sampler = tensor([-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, math.nan])
    new = sampler - tensor([0.9, 0.1, 0.9, 0.1, 0.9, -0.1, 0.0])
    advantage = tensor([-1.0, -1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    unit = torch.tensor([0, 0, 1, 1, 2, 2, 3])
    kept = off_policy_mask(0.45, new, sampler, advantage, unit)
    assert kept.tolist() == [False, False, True, True, True, True, True]
    assert off_policy_mask(math.inf, new, sampler, advantage, unit).all()
