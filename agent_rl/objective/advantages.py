"""Advantages: comparisons of the returns of one group's episodes.

A letter at the end of a tensor's name is its shape: G episodes of one group, which played the same
task.

Only episodes that train are compared (`Trajectory.trains`): the others say nothing about the
policy, and get advantage 0. If fewer than two train, or if all of those have the same return
(`all_equal`), every advantage is exactly 0: a rounding error must not become an advantage, as the
division by a tiny std would make it large.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from agent_rl.objective.presets import AdvantageName

EPSILON = 1e-6
_ROUNDING = 1e-9
"""Returns are equal if they differ by less than this share of the largest. Sums of thousands of
rewards round far less; no reward that means something is so small beside the others."""
_NOTHING = 1e-12
"""So are returns that differ by less than this: rewards may add up to 0 but for rounding."""


def all_equal(returns: Sequence[float]) -> bool:
    """Whether returns are the same but for rounding, as 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 are."""
    if not returns:
        return True
    least, most = min(returns), max(returns)
    return most - least <= max(_ROUNDING * max(abs(least), abs(most)), _NOTHING)


def episode_advantages(
    name: AdvantageName, returns_G: Tensor, trains_G: Tensor, turns_G: Sequence[int]
) -> Tensor:
    """Return one advantage per episode, [G].

    With R an episode's return, the names stand for

        group_std      (R - mean) / (std + 1e-6), std with ddof 1: GRPO (arXiv 2402.03300,
                       section 4.1) and GMPO
        group_mean     R - mean: Dr. GRPO (arXiv 2503.20783)
        leave_one_out  R - mean of the others: RLOO (arXiv 2402.14740, equation 8)
        turn_weighted  as group_std, but each episode counts once for each of its turns. This is
                       what frameworks compute that give each turn a row, such as verl-agent
        turn_groups    as group_std; `turn_group_advantages` gives the part that turns add

    Args:
        name: see above.
        returns_G: the undiscounted returns, floating point.
        trains_G: bool; whether the episode trains.
        turns_G: the number of turns of each episode; only `turn_weighted` uses it.
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
    if used.numel() < 2 or all_equal(used.tolist()):
        return advantages_G
    if name == "leave_one_out":
        advantages_G[trains_G] = used - (used.sum() - used) / (used.numel() - 1)
        return advantages_G
    counts = torch.tensor(turns_G)[trains_G].clamp(min=1)
    rows = used.repeat_interleave(counts) if name == "turn_weighted" else used
    scale = 1.0 if name == "group_mean" else rows.std(correction=1) + EPSILON
    advantages_G[trains_G] = (used - rows.mean()) / scale
    return advantages_G


def turn_score_advantages(
    scores: Sequence[Sequence[float]], counts: Sequence[Sequence[bool]], trains: Sequence[bool]
) -> list[list[float]]:
    """Return the advantage of each turn by a score of its own, which is compared with all turns'.

    It is (score - mean) / (std + 1e-6), std with ddof 1. With the episode's return as the score of
    each turn this is `turn_weighted`.

    Args:
        scores: for each episode the score of each turn.
        counts: for each episode and turn whether it counts in mean and std.
        trains: for each episode whether it trains. The turns of the others do not count, and have
            advantage 0.
    """
    rows = [
        score
        for of_turns, counted, used in zip(scores, counts, trains, strict=True)
        for score, counts_here in zip(of_turns, counted, strict=True)
        if used and counts_here
    ]
    if sum(trains) < 2 or all_equal(rows):
        return [[0.0] * len(of_turns) for of_turns in scores]
    rows_N = torch.tensor(rows, dtype=torch.float64)
    mean, scale = float(rows_N.mean()), float(rows_N.std(correction=1)) + EPSILON
    return [
        [(score - mean) / scale if used else 0.0 for score in of_turns]
        for of_turns, used in zip(scores, trains, strict=True)
    ]


def turn_group_advantages(
    states: Sequence[Sequence[str]],
    rewards: Sequence[Sequence[float]],
    trains: Sequence[bool],
    *,
    discount: float,
) -> list[list[float]]:
    """Return the advantage of each turn in its own group: GiGPO (arXiv 2505.10978, section 4.2).

    Turns that began in the same state form a group, whatever their episode. A turn's return is the
    discounted sum of the rewards from it to the end of its episode.

    Args:
        states: for each episode the observation that each turn began with. Equal texts are equal
            states.
        rewards: for each episode the reward of each turn.
        trains: for each episode whether it trains.
        discount: per turn.

    Returns:
        For each episode and turn (return - mean) / (std + 1e-6) within the group. It is 0 if the
        turn is alone in its state, if all returns are equal, or if the episode does not train.
    """
    # For each state its turns: number of the episode, number of the turn, return.
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
