"""From episodes to padded tensors: what the learner sees, and all it sees."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from agent_rl.advantages import group_advantages
from rollouts.types import TrajectoryGroup


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """One episode for the learner. The three sequences have one length; the first token is never the agent's.

    `behavior_logprobs` are the sampler's, 0 where the mask is False; a supervised sample has zeros.
    """

    token_ids: tuple[int, ...]
    action_mask: tuple[bool, ...]
    behavior_logprobs: tuple[float, ...]
    advantage: float

    def __post_init__(self) -> None:
        assert len(self.token_ids) >= 2, "a sample holds a context token and a target at least"
        lengths = (len(self.token_ids), len(self.action_mask), len(self.behavior_logprobs))
        assert len(set(lengths)) == 1, lengths
        assert not self.action_mask[0], "nothing predicts the first token, so it cannot be trained"

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


def samples_from_group(group: TrajectoryGroup) -> list[TrainingSample]:
    """The group's samples with their advantages; an episode that does not train, or has no turn, gives none."""
    advantages = group_advantages(
        torch.tensor([t.episode_return for t in group.trajectories], dtype=torch.float64),
        torch.tensor([t.stop_reason.trains for t in group.trajectories]),
    )
    return [
        TrainingSample(
            token_ids=trajectory.token_ids,
            action_mask=trajectory.action_mask,
            behavior_logprobs=trajectory.behavior_logprobs,
            advantage=advantage,
        )
        for trajectory, advantage in zip(group.trajectories, advantages.tolist(), strict=True)
        if trajectory.stop_reason.trains and trajectory.turns
    ]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples padded on the right, shifted by one: position t predicts `target_ids_BT[:, t]`. T is one less than the
    longest sample's length.

    Every `_BT` but `input_ids_BT` belongs to the target. Padding has mask False, zeros and turn -1; a causal model's
    other positions do not see it, so there is no attention mask.
    """

    input_ids_BT: Tensor
    target_ids_BT: Tensor
    action_mask_BT: Tensor
    turn_ids_BT: Tensor
    behavior_logprobs_BT: Tensor
    advantage_B: Tensor

    @classmethod
    def from_samples(
        cls, samples: Sequence[TrainingSample], pad_id: int = 0, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Pad and shift. `dtype` is that of log-probs and advantages."""
        assert samples, "a batch holds at least one sample"

        def pad(rows: list[Tensor], value: float) -> Tensor:
            return pad_sequence(rows, batch_first=True, padding_value=value)

        ids = [torch.tensor(s.token_ids) for s in samples]
        return cls(
            input_ids_BT=pad([row[:-1] for row in ids], pad_id),
            target_ids_BT=pad([row[1:] for row in ids], pad_id),
            action_mask_BT=pad([torch.tensor(s.action_mask[1:]) for s in samples], False),
            turn_ids_BT=pad([torch.tensor(s.turn_ids[1:]) for s in samples], -1),
            behavior_logprobs_BT=pad([torch.tensor(s.behavior_logprobs[1:], dtype=dtype) for s in samples], 0.0),
            advantage_B=torch.tensor([s.advantage for s in samples], dtype=dtype),
        )

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def micro_batches(samples: Sequence[TrainingSample], max_tokens: int) -> list[list[int]]:
    """Indices of samples that go through the model together, samples of like length to save padding.

    A micro-batch holds at most `max_tokens` tokens with padding, or one sample where that alone is longer.
    """
    chunks: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(samples)), key=lambda i: len(samples[i].token_ids), reverse=True):
        if not chunks or (len(chunks[-1]) + 1) * longest > max_tokens:
            chunks.append([])
            longest = len(samples[i].token_ids)
        chunks[-1].append(i)
    return chunks


def minibatches(count: int, optimizer_steps: int, rng: random.Random) -> list[list[int]]:
    """Split `count` samples, shuffled, into one list of indices per optimizer step; sizes differ by one at most.

    Every index occurs once. Fewer samples than steps give as many lists as samples.
    """
    order = list(range(count))
    rng.shuffle(order)
    steps = min(optimizer_steps, count)
    return [order[k::steps] for k in range(steps)]
