"""From episodes to packed tensors: what the learner sees, and all it sees."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from agent_rl.advantages import episode_advantages, step_group_advantages
from agent_rl.presets import AdvantageName
from rollouts.types import TrajectoryGroup

ALONE = -1


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """Token ids for the learner. The three sequences have one length; the first token is never the agent's.

    `behavior_logprobs` are the sampler's, 0 where the mask is False; a supervised sample has zeros. `advantages` holds
    one for each turn, a turn being a run of the mask. A sample is a whole episode (`episode` ALONE), or one of those
    with its number: then these are the parts of one episode, each with the prompt that the policy saw.
    """

    token_ids: tuple[int, ...]
    action_mask: tuple[bool, ...]
    behavior_logprobs: tuple[float, ...]
    advantages: tuple[float, ...]
    episode: int = ALONE

    def __post_init__(self) -> None:
        assert len(self.token_ids) >= 2, "a sample holds a context token and a target at least"
        lengths = (len(self.token_ids), len(self.action_mask), len(self.behavior_logprobs))
        assert len(set(lengths)) == 1, lengths
        assert self.episode >= ALONE, self.episode
        assert not self.action_mask[0], "nothing predicts the first token, so it cannot be trained"
        assert len(self.advantages) == self.turns, (len(self.advantages), self.turns)

    @cached_property
    def agent_tokens(self) -> int:
        """How many tokens are trained."""
        return sum(self.action_mask)

    @cached_property
    def turn_ids(self) -> tuple[int, ...]:
        """The number, from 0, of the turn that an agent token belongs to: its run of the mask. -1 elsewhere."""
        ids, turn = [], -1
        for i, is_action in enumerate(self.action_mask):
            if is_action and not self.action_mask[i - 1]:
                turn += 1
            ids.append(turn if is_action else -1)
        return tuple(ids)

    @cached_property
    def turns(self) -> int:
        """How many turns have agent tokens."""
        return max(self.turn_ids) + 1

    @cached_property
    def has_gradient(self) -> bool:
        """Whether a policy objective moves anything: some advantage is not 0."""
        return any(advantage != 0.0 for advantage in self.advantages)


def samples_from_group(
    group: TrajectoryGroup,
    advantage: AdvantageName = "group_std",
    *,
    step_discount: float = 0.95,
    step_advantage_weight: float = 1.0,
) -> list[TrainingSample]:
    """The group's samples with their advantages; an episode that does not train, or has no turn, gives none.

    `step_discount` and `step_advantage_weight` are of `step_groups`: an episode's advantage, and so many times that of
    the turn's own group, as in GiGPO (arXiv 2505.10978, equation 8), whose values are the defaults.
    """
    trajectories = group.trajectories
    trains = [t.stop_reason.trains for t in trajectories]
    returns_G = torch.tensor([t.episode_return for t in trajectories], dtype=torch.float64)
    advantages = episode_advantages(advantage, returns_G, torch.tensor(trains), [len(t.turns) for t in trajectories])
    per_turn = [[a] * len(t.turns) for a, t in zip(advantages.tolist(), trajectories, strict=True)]
    if advantage == "step_groups":
        states = [[turn.observation for turn in t.turns] for t in trajectories]
        rewards = [[turn.reward for turn in t.turns] for t in trajectories]
        of_steps = step_group_advantages(states, rewards, trains, discount=step_discount)
        per_turn = [
            [a + step_advantage_weight * b for a, b in zip(episode, steps, strict=True)]
            for episode, steps in zip(per_turn, of_steps, strict=True)
        ]
    return [
        TrainingSample(
            token_ids=trajectory.token_ids,
            action_mask=trajectory.action_mask,
            behavior_logprobs=trajectory.behavior_logprobs,
            advantages=tuple(of_turns),
        )
        for trajectory, of_turns in zip(trajectories, per_turn, strict=True)
        if trajectory.stop_reason.trains and trajectory.turns
    ]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples one after the other, without padding: S samples, T positions, N agent tokens.

    A sample's last token is no position, as nothing comes after it; the one at position t predicts the next, and here
    alone is the shift by one. `lengths` are the samples' positions, which sum to T. What ends in `_N` belongs to the
    agent's tokens, in their order: `predicts_N` is the position that predicts one, `target_ids_N` the token itself,
    `turn_N` and `episode_N` number the turns and episodes of the batch from 0, `sample_N` the samples.
    """

    lengths: tuple[int, ...]
    input_ids_T: Tensor
    position_ids_T: Tensor
    predicts_N: Tensor
    target_ids_N: Tensor
    sample_N: Tensor
    turn_N: Tensor
    episode_N: Tensor
    behavior_logprobs_N: Tensor
    advantage_N: Tensor

    @classmethod
    def from_samples(cls, samples: Sequence[TrainingSample], dtype: torch.dtype = torch.float32) -> Self:
        """Pack and shift. `dtype` is that of log-probs and advantages."""
        assert samples, "a batch holds at least one sample"
        input_ids: list[int] = []
        columns: dict[str, list[float]] = {name: [] for name in ("predicts", "target", "sample", "turn", "episode")}
        behavior: list[float] = []
        advantages: list[float] = []
        episodes: dict[int, int] = {}
        turns = 0
        for number, sample in enumerate(samples):
            start = len(input_ids)
            input_ids += sample.token_ids[:-1]
            # Parts of one episode share their key; an episode that stands alone has a negative one of its own.
            key = -1 - number if sample.episode == ALONE else sample.episode
            episode = episodes.setdefault(key, len(episodes))
            agents = [i for i, is_action in enumerate(sample.action_mask) if is_action]
            columns["predicts"] += [start + i - 1 for i in agents]
            columns["target"] += [sample.token_ids[i] for i in agents]
            columns["sample"] += [number] * len(agents)
            columns["turn"] += [turns + sample.turn_ids[i] for i in agents]
            columns["episode"] += [episode] * len(agents)
            behavior += [sample.behavior_logprobs[i] for i in agents]
            advantages += [sample.advantages[sample.turn_ids[i]] for i in agents]
            turns += sample.turns
        lengths = tuple(len(sample.token_ids) - 1 for sample in samples)
        indices = {name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}
        return cls(
            lengths=lengths,
            input_ids_T=torch.tensor(input_ids),
            position_ids_T=torch.cat([torch.arange(length) for length in lengths]),
            predicts_N=indices["predicts"],
            target_ids_N=indices["target"],
            sample_N=indices["sample"],
            turn_N=indices["turn"],
            episode_N=indices["episode"],
            behavior_logprobs_N=torch.tensor(behavior, dtype=dtype),
            advantage_N=torch.tensor(advantages, dtype=dtype),
        )

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        tensors = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "lengths"}
        return type(self)(lengths=self.lengths, **tensors)


def episodes_of(samples: Sequence[TrainingSample]) -> list[list[int]]:
    """The indices of each episode's samples, the episodes in the order of their first ones."""
    parts: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        parts.setdefault(-1 - i if sample.episode == ALONE else sample.episode, []).append(i)
    return list(parts.values())


def micro_batches(samples: Sequence[TrainingSample], max_tokens: int, *, shares: int = 1) -> list[list[list[int]]]:
    """Which samples (indices) go through the model together, in blocks of micro-batches that the loss needs whole.

    A micro-batch holds at most `max_tokens` positions, or one sample where that alone is longer. A block is one
    micro-batch of whole episodes, or the several that an episode of many parts needs. Longest first, each into the
    first block with room ("first fit decreasing"). With `shares`, none is filled beyond such a part of all tokens, so
    that there is work for so many ranks.
    """
    blocks: list[list[list[int]]] = []
    room: list[int] = []

    def size(indices: Sequence[int]) -> int:
        return sum(len(samples[i].token_ids) - 1 for i in indices)

    fill = min(max_tokens, -(-size(range(len(samples))) // shares))
    for episode in sorted(episodes_of(samples), key=size, reverse=True):
        need = size(episode)
        fits = next((k for k, left in enumerate(room) if need <= left), None)
        if fits is not None:
            blocks[fits][0] += episode
            room[fits] -= need
        elif need <= max_tokens or len(episode) == 1:
            blocks.append([list(episode)])
            room.append(fill - need)
        else:
            blocks.append(_first_fit(episode, size, max_tokens))
            room.append(0)
    return blocks


def minibatches(episodes: Sequence[list[int]], optimizer_steps: int, rng: random.Random) -> list[list[int]]:
    """Split episodes (their samples' indices), shuffled, into one list of indices per optimizer step.

    Every index occurs once, an episode's all in one step, and the steps' numbers of episodes differ by one at most.
    Fewer episodes than steps give as many lists as episodes.
    """
    order = list(range(len(episodes)))
    rng.shuffle(order)
    steps = min(optimizer_steps, len(episodes))
    return [[i for at in order[k::steps] for i in episodes[at]] for k in range(steps)]


def _first_fit(indices: Sequence[int], size: Callable[[Sequence[int]], int], max_tokens: int) -> list[list[int]]:
    bins: list[list[int]] = []
    for i in sorted(indices, key=lambda i: size([i]), reverse=True):
        fits = next((one for one in bins if size(one) + size([i]) <= max_tokens), None)
        if fits is None:
            bins.append([i])
        else:
            fits.append(i)
    return bins
