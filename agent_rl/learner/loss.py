"""The loss of an optimizer step, for some of its tokens: objective, corrections, KL and entropy.

An optimizer step is computed in pieces: micro-batches, in one or more ranks. The gradients of all
pieces must add up to that of the whole step. So no piece divides by its own size: the divisors are
those of the step (`StepCounts`), and each token gets its final share of the loss (`shares`).
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import Batch
from agent_rl.learner.metrics import Metrics, TokenRecord
from agent_rl.learner.samples import TrainingSample, episodes_of
from agent_rl.learner.scoring import Scores
from agent_rl.objective.policy_loss import (
    AgentTokens,
    importance_weights,
    kl_k3,
    off_policy_mask,
    policy_loss,
    shares,
)


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """The divisors of an optimizer step, over all ranks."""

    tokens: int
    """Agent tokens."""
    episodes: int
    """Episodes that have agent tokens."""
    turns: int
    """Turns that have agent tokens."""

    @classmethod
    def of(cls, samples: Sequence[TrainingSample]) -> Self:
        """Count the samples of a step, those without a gradient included."""
        episodes = 0
        for parts in episodes_of(samples):
            episodes += any(samples[i].turns for i in parts)
        return cls(
            tokens=sum(sample.agent_tokens for sample in samples),
            episodes=episodes,
            turns=sum(sample.turns for sample in samples),
        )


@dataclass(frozen=True, kw_only=True)
class ScoredTokens:
    """The agent's tokens of whole episodes, every field [N]."""

    new: Tensor
    """Log-probs under the policy in training; they alone have a gradient."""
    old: Tensor
    """Log-probs under the policy before the update."""
    sampler: Tensor
    """The log-probs that the serving engine gave while it sampled."""
    reference: Tensor
    """Log-probs under the policy that `beta` compares with; those of `new` without one."""
    entropy: Tensor
    """The entropy of each token's distribution, in nats."""
    advantage: Tensor
    """The advantage of each token's turn."""
    turn: Tensor
    """The number of each token's turn, from 0."""
    episode: Tensor
    """The number of each token's episode, from 0."""
    staleness: Tensor
    """How many versions older than the learner's the weights were that sampled the token."""

    @classmethod
    def of(
        cls, batch: Batch, scores: Scores, *, old: Tensor | None, reference: Tensor | None
    ) -> Self:
        """Return the tokens of a batch.

        Args:
            batch: the batch.
            scores: of the batch.
            old: the old policy's log-probs, [N]. None if the policy in training still is the old
                one: every ratio is 1 then, but its gradient is not 0.
            reference: the reference policy's log-probs, [N], or None without one.
        """
        present = scores.logprobs_N.detach()
        return cls(
            new=scores.logprobs_N,
            old=present if old is None else old,
            sampler=batch.behavior_logprobs_N,
            reference=present if reference is None else reference,
            entropy=scores.entropy_N,
            advantage=batch.advantage_N,
            turn=batch.turn_N,
            episode=batch.episode_N,
            staleness=batch.staleness_N,
        )

    @classmethod
    def of_one_episode(cls, parts: Sequence[Self]) -> Self:
        """Join the tokens of one episode whose parts were scored in several passes.

        `new` is a fresh leaf: the loss has a gradient for it, which ends there.
        """
        columns = {}
        for name in ("new", "old", "sampler", "reference", "entropy", "advantage", "staleness"):
            columns[name] = torch.cat([getattr(part, name) for part in parts])
        columns["new"] = columns["new"].detach().requires_grad_()
        # Each pass numbered its turns from 0; in the episode they go on from part to part.
        turns: list[Tensor] = []
        turns_before = 0
        for part in parts:
            turns.append(part.turn + turns_before)
            turns_before += int(part.turn.max()) + 1
        columns["turn"] = torch.cat(turns)
        columns["episode"] = torch.zeros_like(columns["turn"])
        return cls(**columns)


class LossRule:
    """The loss that the settings describe: the objective, importance weights, KL and entropy."""

    def __init__(
        self, settings: LearnerSettings, most_agent_tokens: int, *, with_weights: bool = False
    ) -> None:
        """Read the settings.

        Args:
            settings: of the learner.
            most_agent_tokens: the default of `normalisation_length`.
            with_weights: whether records have each token's weight.
        """
        self._with_weights = with_weights
        self.objective = settings.chosen_objective
        self.beta = settings.beta
        self.entropy_bonus = settings.entropy_bonus
        self._importance = settings.chosen_importance
        self._off_policy_bound = settings.off_policy_mask or math.inf
        self._length = settings.normalisation_length or most_agent_tokens

    def at(self, done: float) -> "LossRule":
        """Return the rule of one rollout step; `done` is the part of the run before it."""
        rule = copy(self)
        rule.objective = self.objective.at(done)
        return rule

    @property
    def metrics(self) -> Metrics:
        """`power` of the mean in this rollout step, if ratios are averaged at all."""
        if self.objective.aggregation == "token":
            return {}
        return {"power": self.objective.power}

    @property
    def every_episode_counts(self) -> bool:
        """Whether an episode with advantage 0 has a gradient too: that of KL or entropy."""
        return bool(self.beta or self.entropy_bonus)

    def policy(
        self, tokens: ScoredTokens, counts: StepCounts
    ) -> tuple[Tensor, Tensor, TokenRecord]:
        """Return the objective's part of the loss for some whole episodes.

        Returns:
            The loss, a scalar; each token's share of it, [N], 0 if the token is left out; and a
            record for the metrics.
        """
        weights = importance_weights(self._importance, tokens.old, tokens.sampler, tokens.episode)
        by_turn = self.objective.aggregation == "turn"
        unit = tokens.turn if by_turn else tokens.episode
        # A token beyond a mask is left out before anything is computed from it: it is in no mean
        # and in no count of its turn or episode. The divisors `counts` still include it, as they
        # were known before the first pass.
        kept = weights.kept & off_policy_mask(
            self._off_policy_bound, tokens.new, tokens.sampler, tokens.advantage, unit
        )
        share = torch.zeros_like(tokens.old)
        share[kept] = shares(
            self.objective.normalisation,
            unit[kept],
            units=counts.turns if by_turn else counts.episodes,
            tokens=counts.tokens,
            episodes=counts.episodes,
            length=self._length,
        ).to(share.dtype)
        loss, clipped = policy_loss(
            self.objective,
            AgentTokens(
                logp_new=tokens.new[kept],
                logp_old=tokens.old[kept],
                advantage=tokens.advantage[kept],
                share=share[kept],
                turn=tokens.turn[kept],
                episode=tokens.episode[kept],
                log_weight=weights.log_weight[kept],
            ),
        )
        # `clipped` has one entry for each kept token. In the record the others have False.
        nowhere = torch.zeros_like(kept)
        record = TokenRecord(
            log_ratio=(tokens.new.detach() - tokens.old).cpu(),
            entropy=tokens.entropy.detach().cpu(),
            mismatch=(tokens.old - tokens.sampler).cpu(),
            kl=kl_k3(tokens.new.detach(), tokens.reference).cpu(),
            clipped_low=nowhere.masked_scatter(kept, clipped.low).cpu(),
            clipped_high=nowhere.masked_scatter(kept, clipped.high).cpu(),
            clipped_dual=nowhere.masked_scatter(kept, clipped.dual).cpu(),
            left_out=(~kept).cpu(),
            capped=weights.capped.cpu(),
            staleness=tokens.staleness.cpu(),
            turns=_turns_of_episode(tokens).cpu(),
            advantage=tokens.advantage.cpu(),
            share=share.cpu(),
            weight=(
                _weights(loss, tokens.new, share) if self._with_weights else torch.zeros_like(share)
            ).cpu(),
        )
        return loss, share, record

    def extras(self, new: Tensor, entropy: Tensor, reference: Tensor, share: Tensor) -> Tensor:
        """Return the loss of KL and entropy, a scalar.

        Each token has its own term. So, unlike the objective's part, any tokens may be given, and
        not only whole episodes.

        Args:
            new: log-probs under the policy in training, [N].
            entropy: of each token's distribution, [N].
            reference: log-probs under the reference policy, [N].
            share: each token's share of the loss, [N], as `policy` returns it.
        """
        loss = new.new_zeros(())
        if self.beta:
            loss = loss + self.beta * (share * kl_k3(new, reference)).sum()
        if self.entropy_bonus:
            loss = loss - self.entropy_bonus * (share * entropy).sum()
        return loss


def _weights(loss: Tensor, new: Tensor, share: Tensor) -> Tensor:
    """Return what each token's log-prob is pushed up with, over its share of the loss, [N]."""
    # The pass through the model needs the graph again.
    (slope,) = torch.autograd.grad(loss, new, retain_graph=True, allow_unused=True)
    if slope is None:
        return torch.zeros_like(share)
    return torch.where(
        share > 0, (0.0 - slope) / share.clamp(min=torch.finfo(share.dtype).tiny), 0.0
    )


def _turns_of_episode(tokens: ScoredTokens) -> Tensor:
    """Return the number of turns of each token's episode, [N]."""
    # Turn numbers may have gaps, so only turns that have tokens are counted.
    episode_of_turn = torch.zeros(
        int(tokens.turn.max()) + 1, dtype=torch.long, device=tokens.turn.device
    )
    episode_of_turn[tokens.turn] = tokens.episode
    present = torch.bincount(tokens.turn) > 0
    return torch.bincount(episode_of_turn[present])[tokens.episode]
