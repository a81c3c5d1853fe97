"""Muon in float32 is torch's Muon, but for rounding."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Muon

from agent_rl.learner import muon
from agent_rl.learner.muon import FastMuon, orthogonal

USUAL: Any = {"coefficients": (3.4445, -4.7750, 2.0315), "steps": 5, "eps": 1e-7}
SHAPES = [(16, 16), (24, 8), (8, 24)]


def moved(kinds: list[str], shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """A weight after a step of each kind in turn, which go on from each other's state."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    of_torch = Muon([weight], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    ours = FastMuon([weight], lr=0.1, weight_decay=0.1)
    optimizer: Any = of_torch
    before: Any = of_torch
    for kind in kinds:
        monkeypatch.setattr(muon, "chosen_dtype", lambda *_, kind=kind, **__: kind)
        optimizer = of_torch if kind == "torch" else ours
        if optimizer is not before:
            optimizer.load_state_dict(before.state_dict())
        weight.grad = torch.randn(shape)
        optimizer.step()
        before = optimizer
    return weight.detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_in_float32_the_updates_are_torchs_but_for_rounding(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = moved([], shape, monkeypatch)
    expected = moved(["torch"] * 4, shape, monkeypatch) - start
    for kinds in (["float32"] * 4, ["torch", "float32", "torch", "float32"]):
        difference = moved(kinds, shape, monkeypatch) - start - expected
        # bfloat16 has 8 bits, and five iterations round thrice each.
        assert 0 < float(difference.norm() / expected.norm()) < 0.03


def test_with_bfloat16_in_hardware_it_is_torchs_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = moved(["torch"] * 2, (8, 24), monkeypatch)
    assert torch.equal(moved(["bfloat16"] * 2, (8, 24), monkeypatch), expected)


def test_each_singular_value_goes_through_the_polynomial() -> None:
    values = [3.0, 1.0, 0.5]
    expected = [value / (3.0**2 + 1.0 + 0.5**2) ** 0.5 for value in values]
    for _ in range(5):
        expected = [3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5 for s in expected]
    matrix = torch.zeros(5, 3)
    matrix[:3] = torch.diag(torch.tensor(values))
    result = torch.zeros(5, 3)
    result[:3] = torch.diag(torch.tensor(expected))
    torch.testing.assert_close(orthogonal(matrix, **USUAL), result, atol=1e-5, rtol=0)
    torch.testing.assert_close(orthogonal(matrix.T, **USUAL), result.T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    # Singular values that differ by a factor of 20 at most.
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ torch.diag(torch.linspace(0.05, 1.0, min(shape))) @ right
    result = orthogonal(matrix, **USUAL)
    found = torch.linalg.svdvals(result)
    assert float(found.min()) > 0.65
    assert float(found.max()) < 1.25
    # The directions are the matrix's own: left^T X right is diagonal.
    inner = left.T @ result @ right.T
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_each_matrix_of_a_stack_moves_by_itself(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "chosen_dtype", lambda *_, **__: kind)
    torch.manual_seed(2)
    start, gradients = torch.randn(3, 8, 24), [torch.randn(3, 8, 24) for _ in range(2)]
    # An expert that no token came to: it only decays.
    for gradient in gradients:
        gradient[1] = 0.0
    stack, plain = nn.Parameter(start.clone()), nn.Parameter(torch.randn(4, 4))
    alone = [nn.Parameter(matrix.clone()) for matrix in start]
    optimizers = [
        FastMuon(weights, lr=0.1, weight_decay=0.1) for weights in ([plain, stack], alone)
    ]
    for gradient in gradients:
        stack.grad = gradient.clone()
        for matrix, own in zip(alone, gradient, strict=True):
            matrix.grad = own.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(stack, torch.stack([matrix.detach() for matrix in alone]))
    torch.testing.assert_close(stack[1], start[1] * 0.99**2)
    assert float((stack[0] - start[0]).detach().abs().mean()) > 0.02


def test_a_weight_without_gradient_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "chosen_dtype", lambda *_, **__: "float32")
    weight = nn.Parameter(torch.ones(2, 2))
    FastMuon([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight, torch.ones(2, 2))
