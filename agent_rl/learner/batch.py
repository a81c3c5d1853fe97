"""From episodes to packed tensors: what the learner sees, and all it sees."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from agent_rl.learner.prefix_tree import PrefixTree, shared_length
from agent_rl.objective.advantages import episode_advantages, turn_group_advantages
from agent_rl.objective.presets import AdvantageName
from rollouts.types import TrajectoryGroup

ALONE = -1


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """Token ids for the learner. The three sequences have one length; the first token is never the
    agent's.

    `behavior_logprobs` are the sampler's, 0 where the mask is False; a supervised sample has zeros.
    `advantages` holds one for each turn, a turn being a run of the mask. A sample is a whole
    episode (`episode` ALONE), or one of those with its number: then these are the parts of one
    episode, each with the prompt that the policy saw.
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
    def inputs(self) -> tuple[int, ...]:
        """What goes through the model: all tokens but the last, which predicts nothing."""
        return self.token_ids[:-1]

    @cached_property
    def agent_tokens(self) -> int:
        """How many tokens are trained."""
        return sum(self.action_mask)

    @cached_property
    def turn_ids(self) -> tuple[int, ...]:
        """The number, from 0, of the turn that an agent token belongs to: its run of the mask. -1
        elsewhere.
        """
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
    turn_discount: float = 0.95,
    turn_advantage_weight: float = 1.0,
) -> list[TrainingSample]:
    """The group's samples with their advantages; an episode that does not train, or has no turn,
    gives none.

    `turn_discount` and `turn_advantage_weight` are of `turn_groups`: an episode's advantage, and so
    many times that of the turn's own group, as in GiGPO (arXiv 2505.10978, equation 8), whose
    values are the defaults.
    """
    trajectories = group.trajectories
    trains = [t.stop_reason.trains for t in trajectories]
    returns_G = torch.tensor([t.episode_return for t in trajectories], dtype=torch.float64)
    advantages = episode_advantages(
        advantage, returns_G, torch.tensor(trains), [len(t.turns) for t in trajectories]
    )
    per_turn = [[a] * len(t.turns) for a, t in zip(advantages.tolist(), trajectories, strict=True)]
    if advantage == "turn_groups":
        states = [[turn.observation for turn in t.turns] for t in trajectories]
        rewards = [[turn.reward for turn in t.turns] for t in trajectories]
        of_steps = turn_group_advantages(states, rewards, trains, discount=turn_discount)
        per_turn = [
            [a + turn_advantage_weight * b for a, b in zip(episode, steps, strict=True)]
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
    """Samples in one pack, without padding: T positions, R rows to score, N agent tokens.

    What samples begin with alike stands there once (`tree`). A sample's last token is no position,
    as nothing comes after it; the one at position t predicts the next, and here alone is the shift
    by one. A row is a prediction: `predicts_R` is the position that makes it, `target_ids_R` the
    token it is asked for. What ends in `_N` belongs to the agent's tokens, sample after sample:
    `row_N` is the token's prediction, which samples may share; `turn_N` and `episode_N` number the
    turns and episodes of the batch from 0, `sample_N` the samples. `tokens` are the positions that
    the samples would have if none were shared.
    """

    tree: PrefixTree
    tokens: int
    input_ids_T: Tensor
    position_ids_T: Tensor
    predicts_R: Tensor
    target_ids_R: Tensor
    row_N: Tensor
    sample_N: Tensor
    turn_N: Tensor
    episode_N: Tensor
    behavior_logprobs_N: Tensor
    advantage_N: Tensor

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[TrainingSample],
        dtype: torch.dtype = torch.float32,
        *,
        share_prefixes: bool = True,
    ) -> Self:
        """Pack and shift. `dtype` is that of log-probs and advantages."""
        assert samples, "a batch holds at least one sample"
        tree = PrefixTree.of([sample.inputs for sample in samples], share=share_prefixes)
        input_ids, position_ids = [0] * tree.size, [0] * tree.size
        columns: dict[str, list[int]] = {name: [] for name in ("row", "sample", "turn", "episode")}
        rows: dict[tuple[int, int], int] = {}
        behavior: list[float] = []
        advantages: list[float] = []
        episodes: dict[int, int] = {}
        turns = 0
        for number, sample in enumerate(samples):
            positions = tree.positions(number)
            for i, position in enumerate(positions):
                input_ids[position], position_ids[position] = sample.token_ids[i], i
            # Parts of one episode share their key; an episode that stands alone has a negative one
            # of its own.
            key = -1 - number if sample.episode == ALONE else sample.episode
            episode = episodes.setdefault(key, len(episodes))
            agents = [i for i, is_action in enumerate(sample.action_mask) if is_action]
            predictions = [(positions[i - 1], sample.token_ids[i]) for i in agents]
            columns["row"] += [rows.setdefault(prediction, len(rows)) for prediction in predictions]
            columns["sample"] += [number] * len(agents)
            columns["turn"] += [turns + sample.turn_ids[i] for i in agents]
            columns["episode"] += [episode] * len(agents)
            behavior += [sample.behavior_logprobs[i] for i in agents]
            advantages += [sample.advantages[sample.turn_ids[i]] for i in agents]
            turns += sample.turns
        indices = {name: torch.tensor(values, dtype=torch.long) for name, values in columns.items()}
        return cls(
            tree=tree,
            tokens=sum(len(sample.inputs) for sample in samples),
            input_ids_T=torch.tensor(input_ids),
            position_ids_T=torch.tensor(position_ids),
            predicts_R=torch.tensor([position for position, _ in rows], dtype=torch.long),
            target_ids_R=torch.tensor([target for _, target in rows], dtype=torch.long),
            row_N=indices["row"],
            sample_N=indices["sample"],
            turn_N=indices["turn"],
            episode_N=indices["episode"],
            behavior_logprobs_N=torch.tensor(behavior, dtype=dtype),
            advantage_N=torch.tensor(advantages, dtype=dtype),
        )

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return replace(self, **moved)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by their names."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


def episodes_of(samples: Sequence[TrainingSample]) -> list[list[int]]:
    """The indices of each episode's samples, the episodes in the order of their first ones."""
    parts: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        parts.setdefault(-1 - i if sample.episode == ALONE else sample.episode, []).append(i)
    return list(parts.values())


def groups_of(samples: Sequence[TrainingSample]) -> list[list[list[int]]]:
    """The episodes (their samples' indices) that begin with the same prompt, group after group."""
    groups: dict[tuple[int, ...], list[list[int]]] = {}
    for parts in episodes_of(samples):
        first = samples[parts[0]]
        prompt = (
            first.token_ids[: first.action_mask.index(True)]
            if first.agent_tokens
            else first.token_ids
        )
        groups.setdefault(prompt, []).append(parts)
    return list(groups.values())


def micro_batches(
    samples: Sequence[TrainingSample],
    max_tokens: int,
    *,
    shares: int = 1,
    share_prefixes: bool = True,
) -> list[list[list[int]]]:
    """Which samples (indices) go through the model together, in blocks of micro-batches that the
    loss needs whole.

    A micro-batch holds at most `max_tokens` positions, or one sample where that alone is longer. A
    block is one micro-batch of whole episodes, or the several that an episode of many parts needs.
    Episodes come in the order of their tokens, so that those that begin alike meet. With `shares`,
    none is filled beyond such a part of all tokens, so that there is work for so many ranks.
    """
    episodes = sorted(episodes_of(samples), key=lambda episode: samples[episode[0]].inputs)

    def size(indices: Sequence[int]) -> int:
        return PrefixTree.of([samples[i].inputs for i in indices], share=share_prefixes).size

    fill = min(max_tokens, -(-size(range(len(samples))) // shares))
    blocks: list[list[list[int]]] = []
    room = 0
    for episode in episodes:
        need = size(episode)
        saved = 0
        if blocks and share_prefixes:
            saved = shared_length(samples[blocks[-1][-1][-1]].inputs, samples[episode[0]].inputs)
        if need - saved <= room:
            blocks[-1][0] += episode
            room -= need - saved
        elif need <= max_tokens or len(episode) == 1:
            blocks.append([list(episode)])
            room = fill - need
        else:
            blocks.append(_first_fit(episode, size, max_tokens))
            room = -1
    return blocks


def minibatches(
    groups: Sequence[Sequence[list[int]]], optimizer_steps: int, rng: random.Random
) -> list[list[int]]:
    """Split groups of episodes (their samples' indices), shuffled, into one list of indices per
    optimizer step.

    Every index occurs once, an episode's all in one step, and the steps' numbers of episodes differ
    by one at most. A group stays together but for where that cuts it: its advantages then add up to
    nothing in its step, and what its episodes begin with is computed once. Fewer episodes than
    steps give as many lists as episodes.
    """
    shuffled = [rng.sample(group, len(group)) for group in rng.sample(groups, len(groups))]
    order = [episode for group in shuffled for episode in group]
    steps = min(optimizer_steps, len(order))
    cuts = [round(k * len(order) / steps) for k in range(steps + 1)] if steps else []
    return [[i for episode in order[begin:end] for i in episode] for begin, end in pairwise(cuts)]


def _first_fit(
    indices: Sequence[int], size: Callable[[Sequence[int]], int], max_tokens: int
) -> list[list[int]]:
    bins: list[list[int]] = []
    for i in sorted(indices, key=lambda i: size([i]), reverse=True):
        fits = next((one for one in bins if size(one) + size([i]) <= max_tokens), None)
        if fits is None:
            bins.append([i])
        else:
            fits.append(i)
    return bins
