"""One update under way: the optimizer steps that a rollout step's samples are trained in."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agent_rl.learner.batch import Batch
from agent_rl.learner.loss import LossRule, ScoredTokens, StepCounts
from agent_rl.learner.metrics import Metrics, TokenRecord, update_metrics
from agent_rl.learner.passes import Passes
from agent_rl.learner.plan import MicroBatch, StepPlan, micro_batches, plan_update
from agent_rl.learner.probe import Probe
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.scoring import Scorer, Scores
from agent_rl.learner.throughput import Throughput, Work
from agent_rl.policy.lora import adapter_off

Logprobs = dict[int, Tensor]
"""Log-probs of the agent's tokens of each sample, by the sample's index."""
Recorded = list[tuple[MicroBatch, TokenRecord]]
"""Records of the tokens of some samples, sample after sample, with the samples' indices."""


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A micro-batch to train on.

    The last three fields are set if the loss needs several micro-batches together (see `_joined`).
    """

    batch: Batch
    """The micro-batch."""
    samples: MicroBatch
    """The indices of its samples."""
    slope_N: Tensor | None = None
    """The gradient of the loss with respect to each agent token's log-prob."""
    share_N: Tensor | None = None
    """Each agent token's share of the loss; 0 if it is left out."""
    known_loss: float = 0.0
    """This pass's part of the loss."""


class Update:
    """Trains on one rollout step's samples, every sample once.

    Make one for each update, and call `run`. All ranks do so, with the same samples.
    """

    def __init__(
        self,
        samples: Sequence[TrainingSample],
        passes: Passes,
        rule: LossRule,
        *,
        dtype: str,
        reference: Scorer | None,
        rng: random.Random,
        probe: Probe | None = None,
    ) -> None:
        """Plan the update.

        Args:
            samples: all samples of the rollout step, at least one.
            passes: the trained model.
            rule: the loss.
            dtype: of the model's computation, for its utilisation.
            reference: the policy that `beta` compares with. None with a `beta` is the trained model
                without its LoRA adapter.
            rng: of the shuffle into optimizer steps; in the same state in every rank.
            probe: another objective to compare with.
        """
        assert samples, "an update needs at least one sample"
        self._samples = samples
        self._passes = passes
        self._settings = passes.settings
        self._ranks = passes.ranks
        self._rule = rule
        self._throughput = Throughput(passes.scorer, passes.device, dtype)
        self._learning_rate = passes.optimizer.learning_rate
        self._steps = plan_update(
            samples,
            optimizer_steps=self._settings.steps_of_update(sum(s.turns for s in samples)),
            max_tokens=self._settings.micro_batch_tokens,
            ranks=self._ranks.size,
            share_prefixes=self._settings.share_prefixes,
            needed=lambda sample: rule.every_episode_counts or sample.has_gradient,
            rng=rng,
        )
        self._reference_scorer = reference
        self._old: Logprobs = {}
        self._reference: Logprobs = {}
        self._records: Recorded = []
        self._of_ranks: list[dict[str, Tensor]] = []
        """The records of all ranks, after `run`."""
        self._probe = probe
        self._probed: list[Metrics] = []

    def run(self) -> Metrics:
        """Take the optimizer steps; return the metrics of `agent_rl.learner.metrics`.

        Raises:
            FloatingPointError: a loss or gradient is not finite; the weights are as the last good
                step left them.
        """
        # Both passes come before the first optimizer step, which changes the policy.
        self._old = self._old_logprobs()
        self._reference = self._reference_logprobs()
        taken: list[Metrics] = []
        for indices, plan in self._steps:
            metrics = self._step(StepCounts.of([self._samples[i] for i in indices]), plan)
            if metrics is not None:
                taken.append(metrics)
        self._of_ranks = [own for own in self._ranks.gather(self._recorded()) if own]
        records = []
        for tensors in self._of_ranks:
            own = {name: values for name, values in tensors.items() if name != "sample"}
            records.append(TokenRecord(**own))
        tokens = sum(len(sample.token_ids) for sample in self._samples)
        return {
            **update_metrics(taken, records),
            **self._rule.metrics,
            **_of_probes(self._probed),
            "learning_rate": self._learning_rate,
            "optimizer_steps": float(len(taken)),
            **self._throughput.metrics(
                tokens, [Work.of(t) for t in self._ranks.gather(self._throughput.work.tensors())]
            ),
        }

    def _recorded(self) -> dict[str, Tensor]:
        """Return this rank's records, with the index of each token's sample; empty without any."""
        if not self._records:
            return {}
        samples: list[int] = []
        for indices, _ in self._records:
            for i in indices:
                samples += [i] * self._samples[i].agent_tokens
        joined = TokenRecord.joined([record for _, record in self._records])
        return {**joined.tensors(), "sample": torch.tensor(samples)}

    def token_records(self) -> dict[str, Tensor]:
        """Return what `Learner.token_records` says. `run` comes first."""
        if not self._of_ranks:
            return {}
        joined = {}
        for name in self._of_ranks[0]:
            joined[name] = torch.cat([own[name] for own in self._of_ranks])
        # A sample is in one pass of one rank. A stable sort keeps its tokens in their order.
        order = joined["sample"].sort(stable=True).indices
        ordered = {name: values[order] for name, values in joined.items()}
        step_of_sample = torch.zeros(len(self._samples), dtype=torch.long)
        for number, (indices, _) in enumerate(self._steps, start=1):
            step_of_sample[indices] = number
        return {**ordered, "optimizer_step": step_of_sample[ordered["sample"]]}

    def _step(self, counts: StepCounts, plan: StepPlan) -> Metrics | None:
        """Take one optimizer step; None if nothing in it has a gradient, which skips it."""
        optimizer = self._passes.optimizer
        if not plan.passes:
            optimizer.skip()
            return None
        probe = self._probe if self._probe is not None and self._probe.is_due() else None
        probed = None
        if probe is not None:
            self._add_gradient(plan, counts, probe.rule)
            probed = probe.take_gradient()
        loss, records = self._add_gradient(plan, counts, self._rule)
        self._records += records
        learned = self._rule.every_episode_counts
        for _, record in records:
            learned = learned or bool((~record.left_out).any())
        mine = {"loss": torch.tensor(loss, dtype=torch.float64), "learned": torch.tensor(learned)}
        of_ranks = self._ranks.gather(mine)
        if not any(bool(of_rank["learned"]) for of_rank in of_ranks):
            # The masks left everything out, in all ranks. A step with a gradient of 0 would still
            # move the weights, by momentum and weight decay.
            optimizer.skip()
            return None
        if probe is not None and probed is not None:
            self._probed.append(probe.compare(probed))
        whole = sum(float(of_rank["loss"]) for of_rank in of_ranks)
        return {"loss": whole, "grad_norm": optimizer.step()}

    def _add_gradient(
        self, plan: StepPlan, counts: StepCounts, rule: LossRule
    ) -> tuple[float, Recorded]:
        """Add the gradient of an optimizer step's loss; return the loss and records of the tokens.

        Both are those of this rank.
        """
        loss = 0.0
        records: Recorded = []
        for a_pass in self._passes_of(plan, counts, rule, records):
            loss += self._learn_from(a_pass, counts, rule, records)
            self._throughput.count(a_pass.batch, passes=3)
        self._passes.idle(plan.passes - plan.passes_of(self._ranks.rank), gradient=True)
        return loss, records

    def _old_logprobs(self) -> Logprobs:
        """Return the old policy's log-probs; empty if no pass is needed for them.

        With a single optimizer step the trained policy is the old one, and its own pass will give
        them.
        """
        if self._settings.old_logprobs == "learner" and self._settings.optimizer_steps > 1:
            return self._logprobs(self._passes.scorer)
        return {}

    def _reference_logprobs(self) -> Logprobs:
        """Return the log-probs that `beta` compares with; empty without a `beta`."""
        if self._reference_scorer is not None:
            return self._logprobs(self._reference_scorer)
        if not self._settings.beta:
            return {}
        with adapter_off(self._passes.scorer.model):
            return self._logprobs(self._passes.scorer)

    @torch.no_grad()
    def _logprobs(self, scorer: Scorer) -> Logprobs:
        """Return the present log-probs of all samples that this rank will train on."""
        # These passes need no optimizer steps and no blocks, so the samples of all steps are packed
        # together: fewer and fuller micro-batches. Each rank packs for all ranks, to know how many
        # passes the busiest one makes.
        packed: list[list[MicroBatch]] = []
        for rank in range(self._ranks.size):
            own = [i for _, plan in self._steps for i in plan.samples_of(rank)]
            blocks = micro_batches(
                [self._samples[i] for i in own],
                self._settings.micro_batch_tokens,
                share_prefixes=self._settings.share_prefixes,
            )
            flat = [micro_batch for block in blocks for micro_batch in block]
            packed.append([[own[k] for k in micro_batch] for micro_batch in flat])
        mine = packed[self._ranks.rank]
        logprobs: Logprobs = {}
        for micro_batch in mine:
            batch = self._passes.batch([self._samples[i] for i in micro_batch])
            scores: Scores = scorer(batch)
            self._throughput.count(batch, passes=1)
            sizes = [self._samples[i].agent_tokens for i in micro_batch]
            logprobs.update(zip(micro_batch, torch.split(scores.logprobs_N, sizes), strict=True))
        idle = max(map(len, packed)) - len(mine)
        self._passes.idle(idle, gradient=False, scorer=scorer)
        return logprobs

    def _passes_of(
        self, plan: StepPlan, counts: StepCounts, rule: LossRule, records: Recorded
    ) -> list[_Pass]:
        """Return this rank's passes of an optimizer step, in their order."""
        passes: list[_Pass] = []
        first_passes = 0
        for block in plan.blocks[self._ranks.rank]:
            of_block = []
            for micro_batch in block:
                batch = self._passes.batch([self._samples[i] for i in micro_batch])
                of_block.append(_Pass(batch=batch, samples=micro_batch))
            if len(of_block) > 1:
                first_passes += len(of_block)
                of_block = self._joined(of_block, counts, rule, records)
            passes += of_block
        self._passes.idle(plan.first_passes - first_passes, gradient=False)
        return passes

    def _joined(
        self, block: list[_Pass], counts: StepCounts, rule: LossRule, records: Recorded
    ) -> list[_Pass]:
        """Prepare the passes of one episode that is too long for a single pass.

        The loss L depends on the log-probs l_1 ... l_n of all its tokens at once, but a pass has a
        gradient for its own tokens only. By the chain rule

            dL/dweights = sum over tokens of (dL/dl_i) * (dl_i/dweights)

        So the log-probs are computed first, without a gradient for the weights. They give L and the
        slopes dL/dl_i. Each pass then trains on sum(slope_i * l_i) over its own tokens, which has
        exactly its part of that gradient.
        """
        parts = []
        with torch.no_grad():
            for a_pass in block:
                scores: Scores = self._passes.scorer(a_pass.batch)
                parts.append(self._scored(a_pass, scores))
        for a_pass in block:
            self._throughput.count(a_pass.batch, passes=1)
        whole = ScoredTokens.of_one_episode(parts)
        loss, share_N, record = rule.policy(whole, counts)
        (slope_N,) = torch.autograd.grad(loss, whole.new)
        records.append(([i for a_pass in block for i in a_pass.samples], record))
        sizes = [len(part.new) for part in parts]
        slopes, shares = torch.split(slope_N, sizes), torch.split(share_N, sizes)
        # The loss is not a sum over passes; for the metric each gets an equal part of it.
        known_loss = float(loss.detach()) / len(block)
        prepared = []
        for a_pass, slope, share in zip(block, slopes, shares, strict=True):
            prepared.append(replace(a_pass, slope_N=slope, share_N=share, known_loss=known_loss))
        return prepared

    def _learn_from(
        self, a_pass: _Pass, counts: StepCounts, rule: LossRule, records: Recorded
    ) -> float:
        """Make a pass forwards and backwards; return its part of the optimizer step's loss."""
        scores: Scores = self._passes.scorer(a_pass.batch, bool(rule.entropy_bonus))
        tokens = self._scored(a_pass, scores)
        if a_pass.slope_N is None or a_pass.share_N is None:
            loss, share_N, record = rule.policy(tokens, counts)
            records.append((a_pass.samples, record))
            value = float(loss.detach())
        else:
            # This sum has the gradient of the loss, but not its value (see `_joined`).
            loss, share_N = (a_pass.slope_N * tokens.new).sum(), a_pass.share_N
            value = a_pass.known_loss
        extras = rule.extras(tokens.new, tokens.entropy, tokens.reference, share_N)
        # A rank that stopped at a probe would leave the others waiting in their next passes.
        trains = self._probe is None or rule is not self._probe.rule
        self._passes.backward(loss + extras, a_pass.batch, must_be_finite=trains)
        return value + float(extras.detach())

    def _scored(self, a_pass: _Pass, scores: Scores) -> ScoredTokens:
        """Return the tokens of a pass with their new, old and reference log-probs."""
        old_N = _of_samples(self._old, a_pass.samples)
        if self._settings.old_logprobs == "sampler":
            old_N = a_pass.batch.behavior_logprobs_N
        reference_N = _of_samples(self._reference, a_pass.samples)
        return ScoredTokens.of(a_pass.batch, scores, old=old_N, reference=reference_N)


def _of_probes(several: Sequence[Metrics]) -> Metrics:
    """Return the mean of each metric over the probes that have it; `probe_not_finite` is a sum."""
    values: dict[str, list[float]] = {}
    for metrics in several:
        for name, value in metrics.items():
            values.setdefault(name, []).append(value)
    joined = {name: statistics.fmean(of_name) for name, of_name in values.items()}
    if "probe_not_finite" in values:
        joined["probe_not_finite"] = sum(values["probe_not_finite"])
    return joined


def _of_samples(logprobs: Logprobs, samples: MicroBatch) -> Tensor | None:
    """Return the log-probs of some samples, one after the other, [N]; None if none are known."""
    return torch.cat([logprobs[i] for i in samples]) if logprobs else None
