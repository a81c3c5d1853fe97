"""Passes: taking batches through the model in one rank, forwards and backwards."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import Batch
from agent_rl.learner.optimizer import ScheduledOptimizer
from agent_rl.learner.ranks import Ranks
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.scoring import Scorer, Scores

_IDLE = TrainingSample(
    token_ids=(0, 0), action_mask=(False, True), behavior_logprobs=(0.0, 0.0), advantages=(0.0,)
)
"""The smallest sample there is, for passes of a rank that has no work left."""


class Passes:
    """The trained model in one rank, with all that a forward and a backward pass need."""

    def __init__(
        self,
        scorer: Scorer,
        optimizer: ScheduledOptimizer,
        settings: LearnerSettings,
        *,
        ranks: Ranks,
        device: torch.device,
        failure_folder: Path | None,
    ) -> None:
        self.scorer = scorer
        self.optimizer = optimizer
        self.settings = settings
        self.ranks = ranks
        self.device = device
        self._failure_folder = failure_folder

    def batch(self, samples: Sequence[TrainingSample]) -> Batch:
        """Return samples as a batch on the device; log-probs are at least float32."""
        dtype = torch.promote_types(self.scorer.model.dtype, torch.float32)
        batch = Batch.from_samples(
            samples, dtype=dtype, share_prefixes=self.settings.share_prefixes
        )
        return batch.to(self.device)

    def idle(self, passes: int, *, gradient: bool, scorer: Scorer | None = None) -> None:
        """Make passes that learn nothing, because other ranks still have work.

        Under FSDP the weights are divided among the ranks, and each pass collects them: a rank that
        stopped early would leave the others waiting.

        Args:
            passes: how many.
            gradient: whether each has a backward pass, as those of the other ranks.
            scorer: whose weights they collect; None is the trained model's.
        """
        for _ in range(passes):
            with torch.set_grad_enabled(gradient):
                scores: Scores = (scorer or self.scorer)(self.batch([_IDLE]))
            if gradient:
                # A gradient of 0: the ranks' gradients are summed up, so it changes nothing.
                (scores.logprobs_N.sum() * 0.0).backward()  # type: ignore[no-untyped-call]

    def backward(self, loss: Tensor, batch: Batch, *, must_be_finite: bool = True) -> None:
        """Add the gradient of a batch's loss to that of the optimizer step.

        Args:
            loss: a scalar.
            batch: that it is of.
            must_be_finite: False for a gradient that trains nothing.

        Raises:
            FloatingPointError: the loss is not finite. Its batch is in the failure folder, if there
                is one; the gradients are cleared.
        """
        if must_be_finite and not torch.isfinite(loss):
            self.optimizer.zero_grad()
            raise FloatingPointError(
                f"the loss of optimizer step {self._next_step} is {loss.item()}: "
                "lower learning_rate, or look for log-probs that are not finite in the samples"
                f"{self._write_failure(batch)}"
            )
        loss.backward()  # type: ignore[no-untyped-call]

    @property
    def _next_step(self) -> int:
        return self.optimizer.steps_taken + 1

    def _write_failure(self, batch: Batch) -> str:
        """Write a batch to the failure folder; return the end of the message that says so."""
        if self._failure_folder is None:
            return ""
        self._failure_folder.mkdir(parents=True, exist_ok=True)
        name = f"optimizer-step-{self._next_step:06d}-rank-{self.ranks.rank}.pt"
        path = self._failure_folder / name
        branches = [(branch.begin, branch.end, branch.before) for branch in batch.tree.branches]
        torch.save({**batch.tensors, "branches": branches}, path)
        return f"; the batch is in {path}"
