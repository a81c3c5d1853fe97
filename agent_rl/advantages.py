"""Advantages of the episodes of one group."""

import torch
from torch import Tensor

EPSILON = 1e-6


def group_advantages(returns_G: Tensor, trains_G: Tensor) -> Tensor:
    """Standardise the returns of a group's episodes: (return - mean) / (std + 1e-6), std with ddof 1.

    Mean and std are over the members that train. Source: group-relative advantages of GRPO (arXiv 2402.03300,
    section 4.1), as GMPO (arXiv 2507.20673) uses them.

    Args:
        returns_G: undiscounted returns, floating point, shape [G].
        trains_G: bool, shape [G]; False where the episode's ending says nothing about the policy.

    Returns:
        Shape [G]. 0 for members that do not train. All 0 where fewer than two train, or all of those returned the
        same: rounding in the mean must not become an advantage.
    """
    assert returns_G.ndim == 1, returns_G.shape
    assert returns_G.shape == trains_G.shape, (returns_G.shape, trains_G.shape)
    assert returns_G.is_floating_point(), returns_G.dtype
    assert trains_G.dtype == torch.bool, trains_G.dtype
    advantages_G = torch.zeros_like(returns_G)
    used = returns_G[trains_G]
    if used.numel() < 2 or bool((used == used[0]).all()):
        return advantages_G
    advantages_G[trains_G] = (used - used.mean()) / (used.std(correction=1) + EPSILON)
    return advantages_G
