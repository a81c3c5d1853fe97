"""Muon in a number format that the machine multiplies in hardware."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Muon

from rollouts.serving.dtypes import chosen_dtype


def orthogonal(
    matrix: Tensor, coefficients: tuple[float, float, float], *, steps: int, eps: float
) -> Tensor:
    """Return the matrix with its singular values moved to about 1, between 0.7 and 1.2.

    The Newton-Schulz iteration of torch's Muon, in the format of the matrix. Singular values far
    below the largest one stay smaller.

    Args:
        matrix: of two dimensions.
        coefficients: of an iteration's polynomial.
        steps: the number of iterations.
        eps: the smallest norm to divide by.
    """
    a, b, c = coefficients
    # The products of the shorter side are the smaller ones.
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class FastMuon(Muon):
    """torch's Muon, which always iterates in bfloat16; in float32 where bfloat16 is emulated.

    A CPU without products of bfloat16 takes 59 times as long with it as with float32. The updates
    differ by rounding, and the state is the same: either goes on from the other's checkpoint.

    torch's Muon takes matrices only. Here a stack of experts is as many matrices, one for each.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        """Take weights of two dimensions, and stacks of them.

        Args:
            matrices: at least one of them is no stack.
            lr: the rate.
            weight_decay: decoupled.
        """
        flat = [weight for weight in matrices if weight.dim() == 2]
        # The root mean square of AdamW's updates, so that rates can be compared.
        super().__init__(flat, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        (group,) = self.param_groups
        group["params"] = list(matrices)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step as torch's Muon does."""
        assert closure is None
        weights = [weight for group in self.param_groups for weight in group["params"]]
        on_gpu = any(weight.is_cuda for weight in weights)
        dtype: torch.dtype = getattr(torch, chosen_dtype("auto", gpu=on_gpu))
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group, dtype)

    def _move(self, weight: Tensor, group: dict[str, Any], dtype: torch.dtype) -> None:
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        # Nesterov's momentum: a further step along the gradient.
        ahead = gradient.lerp(average, group["momentum"]).to(dtype)
        updates = [
            orthogonal(matrix, group["ns_coefficients"], steps=group["ns_steps"], eps=group["eps"])
            for matrix in (ahead if ahead.dim() == 3 else (ahead,))
        ]
        update = torch.stack(updates).view_as(weight)
        rate = group["lr"] * 0.2 * max(weight.shape[-2:]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)
