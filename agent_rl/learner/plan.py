"""Which rank takes which samples through the model, in which pass. Every rank works out the plan of
all of them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from agent_rl.learner.batch import (
    TrainingSample,
    episodes_of,
    groups_of,
    micro_batches,
    minibatches,
)
from agent_rl.learner.prefix_tree import PrefixTree

MicroBatch = list[int]
Block = list[MicroBatch]
"""Micro-batches that the loss needs together: one, or the several that an episode of many parts
takes.
"""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The blocks of one optimizer step that each rank takes through the model."""

    blocks: list[list[Block]]

    @classmethod
    def of(
        cls,
        samples: Sequence[TrainingSample],
        indices: Sequence[int],
        *,
        max_tokens: int,
        ranks: int,
        share_prefixes: bool = True,
    ) -> Self:
        """Deal the blocks of `indices` to the ranks, largest first, each to the one with the fewest
        tokens yet.
        """
        chosen = [samples[i] for i in indices]
        packs = micro_batches(chosen, max_tokens, shares=ranks, share_prefixes=share_prefixes)
        blocks = [[[indices[i] for i in one] for one in block] for block in packs]

        def tokens(block: Block) -> int:
            return sum(
                PrefixTree.of([samples[i].inputs for i in one], share=share_prefixes).size
                for one in block
            )

        dealt: list[list[Block]] = [[] for _ in range(ranks)]
        load = [0] * ranks
        for block in sorted(blocks, key=tokens, reverse=True):
            least = load.index(min(load))
            dealt[least].append(block)
            load[least] += tokens(block)
        return cls(blocks=dealt)

    @property
    def passes(self) -> int:
        """Passes with a gradient that the busiest rank makes; the others make as many, so that all
        meet.
        """
        return max(self.passes_of(rank) for rank in range(len(self.blocks)))

    @property
    def first_passes(self) -> int:
        """Passes without a gradient before those, for blocks of several micro-batches."""
        return max(sum(len(block) for block in blocks if len(block) > 1) for blocks in self.blocks)

    def passes_of(self, rank: int) -> int:
        """Passes with a gradient that a rank has samples for."""
        return sum(len(block) for block in self.blocks[rank])

    def samples_of(self, rank: int) -> list[int]:
        """What a rank takes through the model."""
        return [i for block in self.blocks[rank] for one in block for i in one]


def plan_update(
    samples: Sequence[TrainingSample],
    *,
    optimizer_steps: int,
    max_tokens: int,
    ranks: int,
    share_prefixes: bool,
    needed: Callable[[TrainingSample], bool],
    rng: random.Random,
) -> list[tuple[list[int], StepPlan]]:
    """The optimizer steps of one rollout step: each step's samples, and the plan of those that are
    `needed`.
    """
    episodes = episodes_of(samples)
    # An episode is left out as a whole: its tokens are counted together.
    pending = {i for parts in episodes if any(needed(samples[i]) for i in parts) for i in parts}
    pending -= {i for i, sample in enumerate(samples) if not sample.agent_tokens}
    return [
        (
            step,
            StepPlan.of(
                samples,
                [i for i in step if i in pending],
                max_tokens=max_tokens,
                ranks=ranks,
                share_prefixes=share_prefixes,
            ),
        )
        for step in minibatches(groups_of(samples), optimizer_steps, rng)
    ]
