"""Advantages of the episodes of one group: what each return is compared with.

All functions take returns_G, undiscounted, floating point, shape [G], and trains_G, bool, shape
[G]: False where the episode's ending says nothing about the policy. Only members that train are
compared; the others get 0. So do all where fewer than two train, or all of those returned the same:
rounding in a mean must not become an advantage.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from agent_rl.objective.presets import AdvantageName

EPSILON = 1e-6


def episode_advantages(
    name: AdvantageName, returns_G: Tensor, trains_G: Tensor, turns_G: Sequence[int]
) -> Tensor:
    """One advantage per episode, [G].

    group_std      (R - mean) / (std + 1e-6), std with ddof 1: GRPO (arXiv 2402.03300, section 4.1), GMPO
    group_mean     R - mean: Dr. GRPO (arXiv 2503.20783)
    leave_one_out  R - mean of the others: RLOO (arXiv 2402.14740, equation 8)
    turn_weighted  as group_std, but an episode counts as often as it has turns (`turns_G`): what comes out where each
                   turn has a row of its own, as in verl-agent
    turn_groups    as group_std; the part that the turns' own groups add is `turn_group_advantages`
    """
    assert returns_G.ndim == 1, returns_G.shape
    assert returns_G.shape == trains_G.shape == (len(turns_G),), (
        returns_G.shape,
        trains_G.shape,
        len(turns_G),
    )
    assert returns_G.is_floating_point(), returns_G.dtype
    assert trains_G.dtype == torch.bool, trains_G.dtype
    advantages_G = torch.zeros_like(returns_G)
    used = returns_G[trains_G]
    if used.numel() < 2 or bool((used == used[0]).all()):
        return advantages_G
    if name == "leave_one_out":
        advantages_G[trains_G] = used - (used.sum() - used) / (used.numel() - 1)
        return advantages_G
    counts = torch.tensor(turns_G)[trains_G].clamp(min=1)
    rows = used.repeat_interleave(counts) if name == "turn_weighted" else used
    scale = 1.0 if name == "group_mean" else rows.std(correction=1) + EPSILON
    advantages_G[trains_G] = (used - rows.mean()) / scale
    return advantages_G


def turn_group_advantages(
    states: Sequence[Sequence[str]],
    rewards: Sequence[Sequence[float]],
    trains: Sequence[bool],
    *,
    discount: float,
) -> list[list[float]]:
    """GiGPO's step advantages (arXiv 2505.10978, section 4.2): turns that began in the same state
    form a group.

    Args:
        states: for each episode, the observation that each of its turns began with. Equal texts are
        equal states.
        rewards: for each episode, each turn's reward.
        trains: per episode, whether it trains.
        discount: per turn; a turn's return is the discounted sum of rewards from it to the end.

    Returns:
        For each episode and turn, (return - mean) / (std + 1e-6) within its state's group; 0 where
        it is alone, where all returns are equal, or where the episode does not train.
    """
    groups: dict[str, list[tuple[int, int, float]]] = {}
    for i, (texts, received) in enumerate(zip(states, rewards, strict=True)):
        to_come, total = [0.0] * len(received), 0.0
        for t in reversed(range(len(received))):
            total = received[t] + discount * total
            to_come[t] = total
        if trains[i]:
            for t, text in enumerate(texts):
                groups.setdefault(text, []).append((i, t, to_come[t]))
    advantages = [[0.0] * len(texts) for texts in states]
    for members in groups.values():
        if len(members) < 2:
            continue
        returns = torch.tensor([value for _, _, value in members], dtype=torch.float64)
        compared = episode_advantages(
            "group_std", returns, torch.ones(len(members), dtype=torch.bool), [1] * len(members)
        )
        for (i, t, _), advantage in zip(members, compared.tolist(), strict=True):
            advantages[i][t] = advantage
    return advantages
