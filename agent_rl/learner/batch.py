"""From training samples to one pack of tensors: all that the model and the loss see.

Letters at the end of a tensor's name are its shape:

    T   positions of the pack: tokens that go through the model
    R   rows: predictions to score, each a position and the token that it has to predict
    N   agent tokens, sample after sample: what the loss is computed on

An example: two episodes of a group begin alike. Brackets mark the agent's tokens:

    sample 0    7  8 [4  2] 9 [5]
    sample 1    7  8 [4  3] 9 [6]

Their common beginning goes through the model once, so the pack is a tree (`prefix_tree.py`):

                                    +-- 2 --- 9      [5]  of sample 0
                7 --- 8 --- 4 ------+
                                    +-- 3 --- 9      [6]  of sample 1

    position            0     1     2     3     4     5     6           T = 7
    input_ids_T         7     8     4     2     9     3     9
    position_ids_T      0     1     2     3     4     3     4
    branches           [--------- 0 ---------------]  [--- 1 ---]

Branch 0 is all of sample 0's input. Branch 1 is the rest of sample 1's, and attends to positions 0
to 2 of branch 0, too. The last tokens, 5 and 6, have no position: nothing comes after them, so they
predict nothing. A token is predicted at the position before it. This shift by one happens here and
nowhere else:

    row                 0     1     2     3     4                       R = 5
    predicts_R          1     2     4     2     6      the position that predicts
    target_ids_R        4     2     5     3     6      the token that it is scored on

Position 2 predicts two different tokens (rows 1 and 3), as the samples fork after it. Both samples
predict their token 4 at position 1, so the two agent tokens share row 0:

    agent token         4     2     5     4     3     6                 N = 6
    row_N               0     1     2     0     3     4
    sample_N            0     0     0     1     1     1
    turn_N              0     0     1     2     2     3
    episode_N           0     0     0     1     1     1
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample, episodes_of


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples in one pack, without padding; the module's docstring draws an example."""

    tree: PrefixTree
    """Which positions belong to which sample; shared beginnings are there once."""
    tokens: int
    """The number of positions if no beginning were shared."""
    input_ids_T: Tensor
    """The token at each position."""
    position_ids_T: Tensor
    """The place of that token in its sample, from 0."""
    predicts_R: Tensor
    """The position that makes each row's prediction."""
    target_ids_R: Tensor
    """The token that each row is scored on."""
    row_N: Tensor
    """The row that predicts each agent token; samples may share it."""
    sample_N: Tensor
    """The number of each agent token's sample, from 0."""
    turn_N: Tensor
    """The number of each agent token's turn, from 0, over the whole batch."""
    episode_N: Tensor
    """The number of each agent token's episode, from 0, over the whole batch."""
    behavior_logprobs_N: Tensor
    """The sampler's log-prob of each agent token, in nats."""
    advantage_N: Tensor
    """The advantage of each agent token's turn."""
    staleness_N: Tensor
    """How many versions older than the learner's the weights were that sampled each agent token."""

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[TrainingSample],
        dtype: torch.dtype = torch.float32,
        *,
        share_prefixes: bool = True,
    ) -> Self:
        """Pack samples and shift by one.

        Args:
            samples: at least one.
            dtype: of log-probs and advantages.
            share_prefixes: if False, samples follow one another and share no position.
        """
        assert samples, "a batch holds at least one sample"
        tree = PrefixTree.of([sample.inputs for sample in samples], share=share_prefixes)
        input_ids, position_ids = [0] * tree.size, [0] * tree.size
        rows: dict[tuple[int, int], int] = {}  # (position, target) to row, in the order of rows
        row: list[int] = []
        sample_ids: list[int] = []
        turn_ids: list[int] = []
        behavior: list[float] = []
        advantages: list[float] = []
        staleness: list[int] = []
        turns_before = 0
        for number, sample in enumerate(samples):
            positions = tree.positions(number)
            # Samples that share a position write the same token and place there.
            for place, position in enumerate(positions):
                input_ids[position], position_ids[position] = sample.token_ids[place], place
            for i, turn in enumerate(sample.turn_ids):
                if turn < 0:
                    continue
                # The shift by one: token i is predicted at the position of token i - 1. Samples
                # with the same beginning and the same next token get the same row.
                prediction = (positions[i - 1], sample.token_ids[i])
                row.append(rows.setdefault(prediction, len(rows)))
                sample_ids.append(number)
                turn_ids.append(turns_before + turn)
                behavior.append(sample.behavior_logprobs[i])
                advantages.append(sample.advantages[turn])
            turns_before += sample.turns
            staleness += sample.token_staleness
        # dtype long: without any agent token the lists are empty, and empty tensors are float.
        sample_N = torch.tensor(sample_ids, dtype=torch.long)
        return cls(
            tree=tree,
            tokens=sum(len(sample.inputs) for sample in samples),
            input_ids_T=torch.tensor(input_ids),
            position_ids_T=torch.tensor(position_ids),
            predicts_R=torch.tensor([position for position, _ in rows], dtype=torch.long),
            target_ids_R=torch.tensor([target for _, target in rows], dtype=torch.long),
            row_N=torch.tensor(row, dtype=torch.long),
            sample_N=sample_N,
            turn_N=torch.tensor(turn_ids, dtype=torch.long),
            episode_N=_episode_of_sample(samples)[sample_N],
            behavior_logprobs_N=torch.tensor(behavior, dtype=dtype),
            advantage_N=torch.tensor(advantages, dtype=dtype),
            staleness_N=torch.tensor(staleness, dtype=torch.long),
        )

    def to(self, device: torch.device) -> Self:
        """Return the same batch on a device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return replace(self, **moved)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The batch's tensors by their names."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


def _episode_of_sample(samples: Sequence[TrainingSample]) -> Tensor:
    """Return the number of each sample's episode, from 0 in the order of first samples."""
    numbers = torch.empty(len(samples), dtype=torch.long)
    for episode, parts in enumerate(episodes_of(samples)):
        numbers[parts] = episode
    return numbers
