"""From the scores of some of an optimizer step's tokens to their part of its loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import Batch
from agent_rl.learner.metrics import TokenRecord
from agent_rl.learner.samples import TrainingSample, episodes_of
from agent_rl.learner.scoring import Scores
from agent_rl.objective.policy_loss import (
    AgentTokens,
    importance_weights,
    kl_k3,
    policy_loss,
    shares,
)


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """The divisors of an optimizer step: its agent tokens, and the episodes and turns that have
    some, in all ranks.
    """

    tokens: int
    episodes: int
    turns: int

    @classmethod
    def of(cls, samples: Sequence[TrainingSample]) -> Self:
        return cls(
            tokens=sum(s.agent_tokens for s in samples),
            episodes=sum(any(samples[i].turns for i in parts) for parts in episodes_of(samples)),
            turns=sum(s.turns for s in samples),
        )


@dataclass(frozen=True, kw_only=True)
class ScoredTokens:
    """The agent's tokens of whole episodes, with what is known of each, every field [N].

    `reference` are the log-probs under the policy that `beta` compares with: those of `new`, where
    there is none.
    """

    new: Tensor
    old: Tensor
    sampler: Tensor
    reference: Tensor
    entropy: Tensor
    advantage: Tensor
    turn: Tensor
    episode: Tensor

    @classmethod
    def of(
        cls, batch: Batch, scores: Scores, *, old: Tensor | None, reference: Tensor | None
    ) -> Self:
        """A batch's tokens. Without `old` log-probs the present ones are the old ones."""
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
        )

    @classmethod
    def of_one_episode(cls, parts: Sequence[Self]) -> Self:
        """The tokens of one episode whose parts were scored apart; `new` is a fresh leaf that takes
        a gradient.
        """
        before, turns = 0, []
        for part in parts:
            turns.append(part.turn + before)
            before += int(part.turn.max()) + 1
        joined = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("new", "old", "sampler", "reference", "entropy", "advantage", "episode")
        }
        joined["episode"] = torch.zeros_like(joined["episode"])
        joined["new"] = joined["new"].detach().requires_grad_()
        return cls(**joined, turn=torch.cat(turns))


class LossRule:
    """The loss that `settings` describe: the objective, corrected for the sampler's mismatch, KL
    and entropy.

    `most_agent_tokens`: what `normalisation: constant` divides by, where the settings leave it
    open.
    """

    def __init__(self, settings: LearnerSettings, most_agent_tokens: int) -> None:
        self.objective = settings.chosen_objective
        self.beta = settings.beta
        self.entropy_bonus = settings.entropy_bonus
        self._importance = settings.chosen_importance
        self._length = settings.normalisation_length or most_agent_tokens

    @property
    def every_episode_counts(self) -> bool:
        """Whether an episode without an advantage has a gradient too."""
        return bool(self.beta or self.entropy_bonus)

    def policy(
        self, tokens: ScoredTokens, counts: StepCounts
    ) -> tuple[Tensor, Tensor, TokenRecord]:
        """The objective's part of the loss, each token's share of it (0 where it is left out), and
        what to report.
        """
        log_weight, kept = importance_weights(
            self._importance, tokens.old, tokens.sampler, tokens.episode
        )
        by_turn = self.objective.aggregation == "turn"
        share = torch.zeros_like(tokens.old)
        share[kept] = shares(
            self.objective.normalisation,
            (tokens.turn if by_turn else tokens.episode)[kept],
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
                log_weight=log_weight[kept],
            ),
        )
        nowhere = torch.zeros_like(kept)
        record = TokenRecord(
            log_ratio=(tokens.new.detach() - tokens.old).cpu(),
            entropy=tokens.entropy.detach().cpu(),
            mismatch=(tokens.old - tokens.sampler).cpu(),
            kl=kl_k3(tokens.new.detach(), tokens.reference).cpu(),
            clipped_low=nowhere.masked_scatter(kept, clipped.low).cpu(),
            clipped_high=nowhere.masked_scatter(kept, clipped.high).cpu(),
            left_out=(~kept).cpu(),
            turns=_turns_of_episode(tokens).cpu(),
        )
        return loss, share, record

    def extras(self, new: Tensor, entropy: Tensor, reference: Tensor, share: Tensor) -> Tensor:
        """The loss of KL and entropy, a scalar; both are a token's own, so any tokens of the step
        may be given.
        """
        loss = new.new_zeros(())
        if self.beta:
            loss = loss + self.beta * (share * kl_k3(new, reference)).sum()
        if self.entropy_bonus:
            loss = loss - self.entropy_bonus * (share * entropy).sum()
        return loss


def _turns_of_episode(tokens: ScoredTokens) -> Tensor:
    """How many turns each token's episode has, [N]."""
    episode_of_turn = torch.zeros(
        int(tokens.turn.max()) + 1, dtype=torch.long, device=tokens.turn.device
    )
    episode_of_turn[tokens.turn] = tokens.episode
    present = torch.bincount(tokens.turn) > 0
    return torch.bincount(episode_of_turn[present])[tokens.episode]
