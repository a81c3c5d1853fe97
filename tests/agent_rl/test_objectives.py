"""The objectives against reference vectors, and the situations in which public implementations go wrong."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.objectives import TokenSums, gmpo, grpo, truncated_log_weights

HERE = Path(__file__).parent
VECTOR_FILES = [HERE / "gmpo_vectors.json", HERE.parents[2] / "shared" / "gmpo" / "vectors.json"]
CASES = [
    pytest.param(case, id=f"{path.stem}-{case['name']}")
    for path in VECTOR_FILES
    if path.exists()
    for case in json.loads(path.read_text())["cases"]
]
Objective = Callable[..., tuple[Tensor, TokenSums]]
BOTH = pytest.mark.parametrize("objective", [gmpo, grpo])


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def run(
    objective: Objective, x: Any, mask: Any, advantage: Any, divisor: float | None = None, **options: Any
) -> tuple[float, Tensor, TokenSums]:
    """Loss, its gradient and the sums at log-ratios `x`; old log-probs are -1. The divisor counts rows by default."""
    logp_old = torch.full_like(tensor(x), -1.0)
    logp_new = (tensor(x) - 1.0).requires_grad_()
    mask_BT = torch.tensor(mask, dtype=torch.bool)
    if divisor is None:
        divisor = max(float(mask_BT.any(1).sum()), 1.0)
    loss, sums = objective(logp_new, logp_old, mask_BT, tensor(advantage), divisor=divisor, **options)
    (grad,) = torch.autograd.grad(loss, logp_new)
    return loss.item(), grad, sums


@pytest.mark.parametrize("case", CASES)
def test_gmpo_equals_the_reference(case: dict[str, Any]) -> None:
    logp_new = tensor(case["logp_new"]).requires_grad_()
    mask = torch.tensor(case["mask"], dtype=torch.bool)
    loss, _ = gmpo(
        logp_new,
        tensor(case["logp_old"]),
        mask,
        tensor(case["advantage"]),
        # The reference divides by all rows, those without agent tokens included; our learner does not count those.
        divisor=float(len(mask)),
        eps_low=case["eps_low"],
        eps_high=case["eps_high"],
    )
    (grad,) = torch.autograd.grad(loss, logp_new)
    torch.testing.assert_close(loss.detach(), tensor(case["closed"]["loss"]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grad, tensor(case["closed"]["grad"]), rtol=1e-9, atol=1e-9)


def test_gmpo_by_hand() -> None:
    # Row 0, A = 2: x = (0.1, 0.9 -> 0.4, masked), w = e^0.25. Row 1, A = -1: x = (-0.9 -> -0.4, 0.2, 0.5), w = e^0.1.
    loss, grad, sums = run(gmpo, [[0.1, 0.9, 5.0], [-0.9, 0.2, 0.5]], [[1, 1, 0], [1, 1, 1]], [2.0, -1.0])
    up, down = math.exp(0.25), math.exp(0.1)
    assert loss == pytest.approx((-2 * up + down) / 2)
    expected = [[-2 * up / 2 / 2, 0.0, 0.0], [0.0, down / 3 / 2, down / 3 / 2]]
    torch.testing.assert_close(grad, tensor(expected))
    assert (int(sums.token_count), int(sums.clipped_low_sum), int(sums.clipped_high_sum)) == (5, 1, 1)
    assert float(sums.ratio_sum) == pytest.approx(sum(math.exp(x) for x in (0.1, 0.9, -0.9, 0.2, 0.5)))
    assert float(sums.log_ratio_abs_max) == pytest.approx(0.9)


def test_grpo_by_hand() -> None:
    # A = 1: ratios 1.1 and 1.5, the second clipped to 1.2. A = -1: ratios 0.5 (clipped to 0.8) and 3, which is not.
    x = [[math.log(1.1), math.log(1.5)], [math.log(0.5), math.log(3.0)]]
    loss, grad, sums = run(grpo, x, [[1, 1], [1, 1]], [1.0, -1.0])
    assert loss == pytest.approx((-(1.1 + 1.2) / 2 + (0.8 + 3.0) / 2) / 2)
    torch.testing.assert_close(grad, tensor([[-1.1 / 4, 0.0], [0.0, 3.0 / 4]]))
    assert (int(sums.clipped_low_sum), int(sums.clipped_high_sum)) == (1, 1)


@BOTH
@pytest.mark.parametrize("split", [[[0], [1], [2], [3]], [[3, 0], [2, 1]], [[1], [0, 2, 3]]])
def test_micro_batches_add_up_to_the_whole_batch(objective: Objective, split: list[list[int]]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    mask = torch.rand(4, 9, generator=generator) < 0.6
    advantage = torch.randn(4, generator=generator, dtype=torch.float64)

    def part(rows: list[int]) -> tuple[float, Tensor, TokenSums]:
        return run(objective, x[rows].tolist(), mask[rows].tolist(), advantage[rows].tolist(), divisor=4.0)

    loss, grad, sums = part([0, 1, 2, 3])
    parts = [part(rows) for rows in split]
    assert sum(p[0] for p in parts) == pytest.approx(loss, abs=1e-12)
    for rows, (_, part_grad, _) in zip(split, parts, strict=True):
        torch.testing.assert_close(part_grad, grad[rows], rtol=0, atol=1e-12)
    merged = parts[0][2]
    for _, _, other in parts[1:]:
        merged = merged.merge(other)
    for name in ("token_count", "clipped_low_sum", "clipped_high_sum", "ratio_sum", "log_ratio_abs_max"):
        torch.testing.assert_close(getattr(merged, name), getattr(sums, name))


@BOTH
def test_a_row_without_agent_tokens_contributes_nothing(objective: Objective) -> None:
    alone, alone_grad, _ = run(objective, [[0.1, 0.3]], [[1, 1]], [1.0])
    loss, grad, _ = run(objective, [[0.1, 0.3], [0.2, 0.2]], [[1, 1], [0, 0]], [1.0, 5.0])
    assert loss == alone
    assert grad.tolist() == [alone_grad[0].tolist(), [0.0, 0.0]]


@BOTH
@pytest.mark.parametrize("garbage", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_masked_garbage_reaches_neither_loss_nor_gradient(
    objective: Objective, garbage: float, advantage: float
) -> None:
    clean, clean_grad, _ = run(objective, [[0.1, 0.0]], [[1, 0]], [advantage])
    loss, grad, sums = run(objective, [[0.1, garbage]], [[1, 0]], [advantage], log_weight_BT=tensor([[0.0, garbage]]))
    assert loss == clean
    assert grad.tolist() == clean_grad.tolist()
    assert float(sums.ratio_sum) == pytest.approx(math.exp(0.1))


@BOTH
@pytest.mark.parametrize("x", [1000.0, -1000.0])
def test_advantage_zero_is_exactly_zero(objective: Objective, x: float) -> None:
    loss, grad, sums = run(objective, [[x, 0.1]], [[1, 1]], [0.0])
    assert loss == 0.0
    assert grad.tolist() == [[0.0, 0.0]]
    assert int(sums.clipped_low_sum) == int(sums.clipped_high_sum) == 0


@BOTH
def test_a_clipped_ratio_beyond_floating_point_leaves_a_clean_gradient(objective: Objective) -> None:
    loss, grad, _ = run(objective, [[1000.0, 0.1]], [[1, 1]], [1.0])
    assert math.isfinite(loss)
    assert grad[0, 0] == 0.0
    assert grad[0, 1] < 0.0


def test_asymmetric_bounds_are_not_swapped() -> None:
    up, up_grad, _ = run(gmpo, [[0.3]], [[1]], [1.0], eps_low=0.1, eps_high=0.5)
    down, down_grad, _ = run(gmpo, [[-0.3]], [[1]], [-1.0], eps_low=0.1, eps_high=0.5)
    assert [up, up_grad.item()] == pytest.approx([-math.exp(0.3), -math.exp(0.3)])
    assert [down, down_grad.item()] == pytest.approx([math.exp(-0.1), 0.0])


@BOTH
def test_the_clip_counts_are_the_tokens_without_gradient(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 20, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 20, generator=generator) < 0.5
    advantage = tensor([1.0, -1.0, 2.0, -0.5, 0.0, 1.0])
    _, grad, sums = run(objective, x.tolist(), mask.tolist(), advantage.tolist())
    removed = mask & (grad == 0.0) & (advantage != 0)[:, None]
    assert int(sums.clipped_high_sum) == int(removed[advantage > 0].sum()) > 0
    assert int(sums.clipped_low_sum) == int(removed[advantage < 0].sum()) > 0
    assert int(sums.token_count) == int(mask.sum())


def test_on_policy_the_gradient_is_that_of_grpo() -> None:
    mask = [[1, 1, 0, 1], [0, 1, 1, 1]]
    zeros = [[0.0] * 4] * 2
    ours, theirs = run(gmpo, zeros, mask, [1.5, -0.7]), run(grpo, zeros, mask, [1.5, -0.7])
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-15)
    assert ours[0] == pytest.approx(theirs[0])


def test_turn_scope_is_episode_scope_on_turns_as_rows() -> None:
    x = [[0.1, 0.9, 7.0, -0.2, 0.3, -0.6]]
    mask = [[1, 1, 0, 1, 1, 1]]
    turns = torch.tensor([[0, 0, -1, 1, 1, 1]])
    loss, grad, _ = run(gmpo, x, mask, [1.0], divisor=2.0, turn_ids_BT=turns)
    split = [[0.1, 0.9, 0.0], [-0.2, 0.3, -0.6]]
    rows_loss, rows_grad, _ = run(gmpo, split, [[1, 1, 0], [1, 1, 1]], [1.0, 1.0])
    assert loss == pytest.approx(rows_loss)
    torch.testing.assert_close(grad[0, [0, 1, 3, 4, 5]], torch.cat([rows_grad[0, :2], rows_grad[1]]))
    assert loss != pytest.approx(run(gmpo, x, mask, [1.0])[0])


def test_log_weights_are_truncated_above_only_and_carry_no_gradient() -> None:
    old = tensor([[0.0, 3.0, -3.0]]).requires_grad_()
    weights = truncated_log_weights(old, tensor([[-0.5, 0.0, 0.0]]), cap=2.0)
    assert weights.tolist() == [[0.5, pytest.approx(math.log(2.0)), -3.0]]
    assert not weights.requires_grad


def test_gmpo_averages_the_log_weights_inside_the_geometric_mean() -> None:
    loss, grad, _ = run(gmpo, [[0.1, 0.9]], [[1, 1]], [1.0], log_weight_BT=tensor([[0.3, -0.1]]))
    weight = math.exp((0.1 + 0.4 + 0.3 - 0.1) / 2)
    assert loss == pytest.approx(-weight)
    torch.testing.assert_close(grad, tensor([[-weight / 2, 0.0]]))


def test_grpo_weighs_each_token() -> None:
    x = [[math.log(1.1), math.log(1.5)]]
    loss, grad, _ = run(grpo, x, [[1, 1]], [1.0], log_weight_BT=tensor([[math.log(2.0), math.log(0.5)]]))
    assert loss == pytest.approx(-(1.1 * 2.0 + 1.2 * 0.5) / 2)
    torch.testing.assert_close(grad, tensor([[-1.1 * 2.0 / 2, 0.0]]))
