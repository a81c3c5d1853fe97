"""The plan of an update: which rank takes which samples through the model, and in which pass.

Every rank computes the plan of all ranks, from the same samples and the same random numbers, so
nothing has to be sent. An update is cut on four levels:

    optimizer step    episodes whose gradients are added up before the weights change
    rank              a process; the blocks of a step are dealt to the ranks
    block             micro-batches that the loss needs together, because they hold one episode
    micro-batch       samples that go through the model in one pass

A block has one micro-batch of whole episodes, except in one case: the parts of an episode (samples
with one `episode` number) do not fit into a micro-batch together. The weight of an episode depends
on all of its tokens (GMPO's geometric mean), so the loss is computed for the block as a whole.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from agent_rl.learner.prefix_tree import PrefixTree, shared_length
from agent_rl.learner.samples import TrainingSample, episodes_of, groups_of

MicroBatch = list[int]
"""The indices of samples that go through the model in one pass."""
Block = list[MicroBatch]
"""Micro-batches that the loss needs together: one, or those of an episode of many parts."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The passes of one optimizer step, for each rank."""

    blocks: list[list[Block]]
    """The blocks of each rank, in the order of its passes."""

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
        """Cut the samples at `indices` into blocks and deal them to the ranks.

        Args:
            samples: all samples of the update.
            indices: those that the step trains on; plans hold indices into `samples`.
            max_tokens: the most positions of a micro-batch.
            ranks: the number of processes.
            share_prefixes: as in `Batch.from_samples`.
        """
        of_step = [samples[i] for i in indices]
        blocks = micro_batches(of_step, max_tokens, shares=ranks, share_prefixes=share_prefixes)

        def work(block: Block) -> int:
            return sum(_positions(of_step, micro_batch, share_prefixes) for micro_batch in block)

        # The greedy rule for even loads: the largest block first, each to the least busy rank.
        dealt: list[list[Block]] = [[] for _ in range(ranks)]
        load = [0] * ranks
        for block in sorted(blocks, key=work, reverse=True):
            least = load.index(min(load))
            # `block` has indices into the step's samples, the plan has those of all samples.
            dealt[least].append([[indices[k] for k in micro_batch] for micro_batch in block])
            load[least] += work(block)
        return cls(blocks=dealt)

    @property
    def passes(self) -> int:
        """The passes with a gradient of the busiest rank.

        The other ranks make as many, some of them idle: under FSDP each pass is collective.
        """
        return max(self.passes_of(rank) for rank in range(len(self.blocks)))

    @property
    def first_passes(self) -> int:
        """The passes without a gradient before those, for blocks of several micro-batches.

        Again those of the busiest rank.
        """
        busiest = 0
        for blocks in self.blocks:
            own = sum(len(block) for block in blocks if len(block) > 1)
            busiest = max(busiest, own)
        return busiest

    def passes_of(self, rank: int) -> int:
        """Return the number of a rank's own passes with a gradient."""
        return sum(len(block) for block in self.blocks[rank])

    def samples_of(self, rank: int) -> list[int]:
        """Return the indices of a rank's samples, in the order of its passes."""
        return [i for block in self.blocks[rank] for micro_batch in block for i in micro_batch]


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
    """Plan the optimizer steps of one update.

    Args:
        samples: all samples of a rollout step.
        optimizer_steps: the number of steps; fewer if there are fewer episodes.
        max_tokens: the most positions of a micro-batch.
        ranks: the number of processes.
        share_prefixes: as in `Batch.from_samples`.
        needed: whether a sample has to go through the model. An episode is left out only if none
            of its parts is needed, as its tokens are counted together.
        rng: of the shuffle; the same in every rank.

    Returns:
        For each step the indices of all its samples, which its divisors count, and the plan of
        those that are needed.
    """
    pending: set[int] = set()
    for parts in episodes_of(samples):
        if any(needed(samples[i]) for i in parts):
            pending.update(i for i in parts if samples[i].agent_tokens)
    steps = []
    for indices in minibatches(groups_of(samples), optimizer_steps, rng):
        plan = StepPlan.of(
            samples,
            [i for i in indices if i in pending],
            max_tokens=max_tokens,
            ranks=ranks,
            share_prefixes=share_prefixes,
        )
        steps.append((indices, plan))
    return steps


def minibatches(
    groups: Sequence[Sequence[list[int]]], optimizer_steps: int, rng: random.Random
) -> list[list[int]]:
    """Shuffle episodes and split them into one list of sample indices for each optimizer step.

    All samples of an episode are in one step. The steps' numbers of episodes differ by at most 1.

    Groups are shuffled as wholes, and episodes within their group. So only a group at the border of
    two steps is cut. This has two advantages: a whole group's advantages add up to 0 within its
    step, and its common prompt is computed once.

    Args:
        groups: groups of episodes; an episode is the list of its samples' indices.
        optimizer_steps: the number of lists; fewer if there are fewer episodes.
        rng: of the shuffle.
    """
    shuffled = [rng.sample(group, len(group)) for group in rng.sample(groups, len(groups))]
    order = [episode for group in shuffled for episode in group]
    steps = min(optimizer_steps, len(order))
    cuts = [round(k * len(order) / steps) for k in range(steps + 1)] if steps else []
    return [[i for episode in order[begin:end] for i in episode] for begin, end in pairwise(cuts)]


def micro_batches(
    samples: Sequence[TrainingSample],
    max_tokens: int,
    *,
    shares: int = 1,
    share_prefixes: bool = True,
) -> list[Block]:
    """Cut samples into blocks of micro-batches, as indices into `samples`.

    Args:
        samples: whole episodes.
        max_tokens: the most positions of a micro-batch. A longer sample gets one alone.
        shares: the number of ranks that need work: no micro-batch takes another episode beyond
            this part of all positions.
        share_prefixes: as in `Batch.from_samples`; a shared position counts once.
    """

    def size(indices: Sequence[int]) -> int:
        return _positions(samples, indices, share_prefixes)

    # In the order of their tokens, episodes with a common beginning are neighbours, so they meet in
    # a micro-batch and share it.
    episodes = sorted(episodes_of(samples), key=lambda episode: samples[episode[0]].inputs)
    all_positions = size(range(len(samples)))
    fill = min(max_tokens, -(-all_positions // shares))
    blocks: list[Block] = []
    room = 0  # positions that are free in the last block
    for episode in episodes:
        need = size(episode)
        saved = 0
        if blocks and share_prefixes:
            # The neighbour is in the last micro-batch, so at least this beginning is already there.
            # In lexicographic order no other sample has more in common with this one.
            neighbour = blocks[-1][-1][-1]
            saved = shared_length(samples[neighbour].inputs, samples[episode[0]].inputs)
        if need - saved <= room:
            blocks[-1][0] += episode
            room -= need - saved
        elif need <= max_tokens or len(episode) == 1:
            blocks.append([list(episode)])
            room = fill - need
        else:
            # An episode of many parts: a block for it alone, with nothing else in its passes.
            blocks.append(_first_fit(episode, size, max_tokens))
            room = -1
    return blocks


def _positions(
    samples: Sequence[TrainingSample], indices: Sequence[int], share_prefixes: bool
) -> int:
    """Return the number of positions that samples have in one pack."""
    return PrefixTree.of([samples[i].inputs for i in indices], share=share_prefixes).size


def _first_fit(
    indices: Sequence[int], size: Callable[[Sequence[int]], int], max_tokens: int
) -> Block:
    """Pack the parts of one episode: the longest first, each into the first pass with room."""
    packed: Block = []
    for i in sorted(indices, key=lambda i: size([i]), reverse=True):
        for micro_batch in packed:
            if size(micro_batch) + size([i]) <= max_tokens:
                micro_batch.append(i)
                break
        else:
            packed.append([i])
    return packed
