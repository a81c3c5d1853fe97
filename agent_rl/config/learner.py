"""The settings of the learner: the objective, the corrections, the optimizer, the hardware."""

import math
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from agent_rl.objective.presets import (
    PRESETS,
    AdvantageName,
    Aggregation,
    Clip,
    Importance,
    ImportanceName,
    Normalisation,
    Objective,
    ObjectiveName,
)
from rollouts.settings import Settings

DEFAULT_IMPORTANCE_CAP = 2.0
_BOUNDS_OF: dict[str, ObjectiveName] = {"log": "gmpo", "ratio": "grpo", "weight": "cispo"}
"""The preset whose bounds a clip gets if the objective's own clip is of another kind."""

_LOGIT_BYTES = 256 * 2**20
"""The size of a chunk's logits in float32, by default; a gradient needs some five times as much."""


class LearnerSettings(Settings):
    """How finished episodes become updates of the policy.

    `objective` names a preset, and each further key of the objective replaces one part of it. A key
    that has no effect with the others must stay null: setting it is an error.
    """

    objective: ObjectiveName = "gmpo"
    """Preset of the policy objective; see `agent_rl/objective/presets.py`."""

    aggregation: Aggregation | None = None
    """Unit that a probability ratio belongs to; null is the preset's."""

    clip: Clip | None = None
    """Kind of clip that limits a ratio; null is the preset's."""

    normalisation: Normalisation | None = None
    """Divisor of a token's term; null is the preset's."""

    normalisation_length: int | None = Field(default=None, ge=1)
    """Tokens that `normalisation: constant` divides by; null is the most that an episode's actions
    can have."""

    advantage: AdvantageName | None = None
    """Comparison that turns a return into an advantage; null is the preset's."""

    turn_discount: float | None = Field(default=None, gt=0.0, le=1.0)
    """Discount per turn of returns to come, with `advantage: turn_groups`; null is 0.95."""

    turn_advantage_weight: float | None = Field(default=None, ge=0.0)
    """Weight of a turn's advantage beside its episode's, with `advantage: turn_groups`; null is
    1."""

    invalid_turn_penalty: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    """Subtracted from the score of a turn whose action is invalid, and from no other turn's, with
    `advantage: turn_weighted`. Returns stay as they are: `episode.invalid_action_penalty` lowers
    those. Null is none; verl-agent's recipes have 0.1."""

    epsilon: float | None = Field(default=None, gt=0.0)
    """Lower bound of the clip; null is the preset's."""

    epsilon_high: float | None = Field(default=None, gt=0.0)
    """Upper bound of the clip; null is `epsilon` if that is set, and the preset's if not."""

    clip_c: float | None = Field(default=None, gt=1.0, allow_inf_nan=False)
    """Largest ratio of a token with a negative advantage (dual clip), with `aggregation: token`:
    one above it has no gradient. Null is no such bound; verl's default is 3."""

    power: float | None = Field(default=None, allow_inf_nan=False)
    """Power of the mean over the ratios of a turn or an episode: 1 is arithmetic, 0 geometric, -1
    harmonic. Null is the preset's."""

    power_end: float | None = Field(default=None, allow_inf_nan=False)
    """Power in the last rollout step, which that of the first one reaches linearly; null is no
    change if `power` is set, and the preset's if not."""

    beta: float = Field(default=0.0, ge=0.0)
    """Weight of the KL divergence from the policy that the run started with. 0, as in GMPO's
    paper, saves its pass."""

    entropy_bonus: float = Field(default=0.0, ge=0.0)
    """Weight of the entropy, which is subtracted from the loss; 0 is off."""

    old_logprobs: Literal["learner", "sampler"] = "learner"
    """Source of the old log-probs: recomputed by the `learner` before the first optimizer step, or
    as the `sampler` reported them."""

    importance: ImportanceName | None = None
    """Weight learner/sampler that corrects the sampler's mismatch, and with `train.look_ahead` its
    older weights: of each `token`, the product of a `sequence`, its `geometric` mean, or `none`.
    Null is `token` if there is a mismatch to correct."""

    importance_cap: float | None = Field(default=None, ge=0.0)
    """Largest importance weight; 0 is no cap, null is 2."""

    importance_mask: float = Field(default=0.0, ge=0.0)
    """Weights above this, or below its inverse, leave the token or episode out; 0 leaves none
    out."""

    off_policy_mask: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    """Episodes (with `aggregation: turn`, turns) of a negative advantage are left out if their mean
    log-ratio sampler/new is above this, in nats a token. Null leaves none out; TRL's docs suggest
    0.5."""

    optimizer_steps: int = Field(default=4, ge=1)
    """Optimizer steps per rollout step, each with its share of the episodes. All after the first
    are off-policy, so more of them drift further."""

    probe: ObjectiveName | None = None
    """Another objective whose gradient is compared with the trained one's, on the same samples
    (`learner/probe_cosine`). It trains nothing."""

    probe_every: int = Field(default=10, ge=1)
    """Every how many optimizer steps the probe is taken. It costs another forward and backward pass
    of that step."""

    turns_per_step: int | None = Field(default=None, ge=1)
    """About how many turns an optimizer step has. A rollout step of short episodes then has fewer
    optimizer steps than `optimizer_steps`, which is the most. Null: always as many."""

    micro_batch_tokens: int = Field(default=4096, ge=1)
    """Tokens in one forward pass, at most; a longer episode gets a pass to itself. Bounds memory,
    not results."""

    share_prefixes: bool = True
    """Whether a beginning that episodes of a pass have in common is computed once."""

    logit_chunk: int | None = Field(default=None, ge=1)
    """Agent tokens whose logits exist at one time, at most; null is as many as have 256 MiB of them
    (1,365 of SmolLM2's). Bounds memory, not results."""

    learning_rate: float = Field(default=1e-6, gt=0.0)
    """AdamW's learning rate. The default suits a pretrained model; one from scratch needs about
    1e-4."""

    muon_learning_rate: float | None = Field(default=None, gt=0.0)
    """Muon's learning rate for the matrices of the decoder's layers, in one rank; null trains them
    with AdamW."""

    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate rises linearly."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after the warm-up: `constant`, or down to 0 at the end of the run."""

    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Largest norm of the gradient; a larger one is scaled down to it."""

    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled weight decay of AdamW and Muon; 0 is off."""

    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and the second moment. 0.95 in place of the usual 0.999
    adapts to the changing policy within some 20 steps."""

    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Format of the learner's computations. `bfloat16` is autocast, and weights stay as loaded;
    `auto` is bfloat16 if the device has it in hardware."""

    activation_checkpointing: bool = False
    """Whether only each layer's input is kept, and the layer computed again for its gradient. Saves
    memory, costs time."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the learner; `auto` is CUDA if there is one."""

    threads: int = Field(default=0, ge=0)
    """Threads of torch on CPU; 0 leaves torch's choice."""

    ranks: int = Field(default=1, ge=1)
    """Processes that share the model and the samples."""

    max_restarts: int = Field(default=3, ge=0)
    """Times that the processes may die without a new checkpoint in between, until the run ends.
    Each time, training goes on from the newest checkpoint."""

    timeout_seconds: float = Field(default=3600.0, gt=0.0)
    """Seconds that the processes may take for one call, such as an update, a checkpoint or the load
    of the policy. If they take longer, they hang, and are replaced as if they had died. The default
    is far above a healthy update."""

    @model_validator(mode="after")
    def _clip_fits(self) -> Self:
        chosen, name = self.chosen_objective, self._described
        if chosen.clip == "none":
            self._refuse(("epsilon", "epsilon_high", "clip_c"), f"{name}; remove it, or set clip")
        if chosen.clip == "weight" and chosen.aggregation != "token":
            raise ValueError(f"clip: weight goes with aggregation: token; {name} has another one")
        # A ratio is never negative, so with epsilon above 1 it cannot reach 1 - epsilon. Clips of
        # log-ratios have no such limit.
        if chosen.clip in ("ratio", "weight") and chosen.epsilon > 1.0:
            raise ValueError(
                f"epsilon: {chosen.epsilon} leaves no lower bound 1 - epsilon; use at most 1 with "
                f"{name}"
            )
        return self

    @model_validator(mode="after")
    def _means_fit(self) -> Self:
        chosen, name = self.chosen_objective, self._described
        if chosen.aggregation == "token":
            self._refuse(
                ("power", "power_end"),
                f"{name}, where each token has its own ratio; remove it, or use aggregation: turn, "
                "episode or sequence",
            )
        elif self.clip_c is not None:
            raise ValueError(
                f"clip_c: {self.clip_c} bounds the ratio of a token, but in {name} a token has "
                "none of its own; remove it, or use aggregation: token"
            )
        if chosen.clip == "weight":
            self._refuse(
                ("clip_c",),
                f"{name}, whose epsilon_high bounds every ratio; remove it, or use clip: ratio",
            )
        return self

    @model_validator(mode="after")
    def _normalisation_and_advantage_fit(self) -> Self:
        chosen = self.chosen_objective
        if chosen.normalisation != "constant":
            self._refuse(
                ("normalisation_length",),
                f"normalisation: {chosen.normalisation}; remove it, or use constant",
            )
        if chosen.advantage != "turn_groups":
            self._refuse(
                ("turn_discount", "turn_advantage_weight"),
                f"advantage: {chosen.advantage}; remove it, or use turn_groups",
            )
        elif chosen.aggregation in ("episode", "sequence"):
            raise ValueError(
                "advantage: turn_groups gives each turn an advantage, but aggregation: "
                f"{chosen.aggregation} needs one for an episode; use aggregation: turn or token"
            )
        if chosen.advantage != "turn_weighted":
            self._refuse(
                ("invalid_turn_penalty",),
                f"advantage: {chosen.advantage}; remove it, or use turn_weighted",
            )
        elif self.invalid_turn_penalty and chosen.aggregation in ("episode", "sequence"):
            raise ValueError(
                f"invalid_turn_penalty: {self.invalid_turn_penalty} gives each turn an advantage, "
                f"but aggregation: {chosen.aggregation} needs one for an episode; use aggregation: "
                "turn or token"
            )
        return self

    @model_validator(mode="after")
    def _importance_fits(self) -> Self:
        if self.old_logprobs == "sampler":
            self._refuse(
                ("importance", "importance_cap", "importance_mask"),
                "old_logprobs: sampler, whose ratios are the sampler's already; remove it, or use "
                "old_logprobs: learner",
            )
        if self.importance == "none":
            self._refuse(
                ("importance_cap", "importance_mask"),
                "importance: none; remove it, or set importance",
            )
        # Both act on weights around 1: the cap cuts from above, the mask drops on both sides.
        cap, mask = self.importance_cap or 0.0, self.importance_mask
        if 0.0 < cap < 1.0:
            raise ValueError(
                f"importance_cap: {cap} would shrink every weight; use 0 (no cap) or at least 1"
            )
        if 0.0 < mask <= cap:
            raise ValueError(
                f"importance_cap: {cap} has no effect with importance_mask: {mask}, which leaves "
                "out all that it would cut; remove it, or use less than the mask"
            )
        if 0.0 < mask <= 1.0:
            raise ValueError(
                f"importance_mask: {mask} would leave everything out; use 0 (off) or more than 1"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_fits(self) -> Self:
        if self.muon_learning_rate is not None and self.ranks > 1:
            raise ValueError(
                f"muon_learning_rate: {self.muon_learning_rate} needs whole matrices, which ranks: "
                f"{self.ranks} share out; use ranks: 1, or leave it out"
            )
        if self.turns_per_step is not None and self.schedule != "constant":
            raise ValueError(
                f"turns_per_step: {self.turns_per_step} leaves the number of optimizer steps open, "
                f"so schedule: {self.schedule} would not know the end; use schedule: constant"
            )
        if self.turns_per_step is not None and self.power_end is not None:
            raise ValueError(
                f"turns_per_step: {self.turns_per_step} leaves the number of optimizer steps open, "
                "so the power would not reach power_end; leave one of them out"
            )
        if (
            self.probe is None
            and self.probe_every != type(self).model_fields["probe_every"].default
        ):
            raise ValueError(
                f"probe_every: {self.probe_every} has no effect without a probe; set probe, or "
                "remove it"
            )
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas: {list(self.betas)} must lie in [0, 1)")
        return self

    def steps_of_update(self, turns: int) -> int:
        """Return the number of optimizer steps for a rollout step of so many turns.

        >>> LearnerSettings(optimizer_steps=25, turns_per_step=256).steps_of_update(1000)
        4
        """
        if self.turns_per_step is None:
            return self.optimizer_steps
        return min(max(math.ceil(turns / self.turns_per_step), 1), self.optimizer_steps)

    def most_logit_rows(self, vocabulary: int) -> int:
        """Return the most agent tokens of a model with this vocabulary that have logits at once."""
        return self.logit_chunk or max(_LOGIT_BYTES // (4 * vocabulary), 1)

    def of_probe(self) -> Self:
        """Return the same settings with the probe as objective, as its preset has it."""
        parts = ["aggregation", "clip", "normalisation", "normalisation_length", "epsilon"]
        parts += ["epsilon_high", "clip_c", "power", "power_end"]
        return self.model_copy(update={"objective": self.probe, **dict.fromkeys(parts)})

    @property
    def chosen_objective(self) -> Objective:
        """The preset with the parts that replace its own."""
        preset = PRESETS[self.objective]
        parts: dict[str, Any] = {}
        for key in ("aggregation", "clip", "normalisation", "advantage"):
            if getattr(self, key) is not None:
                parts[key] = getattr(self, key)
        if self.power is not None or self.power_end is not None:
            parts["power"] = preset.power if self.power is None else self.power
            parts["power_end"] = self.power_end
        low, high = self._bounds(preset)
        return replace(
            preset, **parts, epsilon=low, epsilon_high=high, clip_c=self.clip_c or preset.clip_c
        )

    @property
    def chosen_importance(self) -> Importance:
        """The correction of the sampler's mismatch."""
        if self.old_logprobs == "sampler" or self.importance == "none":
            return Importance()
        cap = DEFAULT_IMPORTANCE_CAP if self.importance_cap is None else self.importance_cap
        return Importance(level=self.importance or "token", cap=cap, mask=self.importance_mask)

    def _bounds(self, preset: Objective) -> tuple[float, float]:
        """The clip's lower and upper bound; 0 and 0 if `clip: none` removes the preset's."""
        if self.clip == "none":
            return 0.0, 0.0
        defaults = preset
        if self.clip is not None and self.clip != preset.clip:
            # Bounds of one kind of clip mean nothing to another: 0.4 of a log-ratio is not 0.4
            # of a ratio. So the bounds come from the preset known for this kind.
            defaults = PRESETS[_BOUNDS_OF[self.clip]]
        if self.epsilon is None:
            low, high = defaults.epsilon, defaults.epsilon_high
        else:
            low = high = self.epsilon
        return low, high if self.epsilon_high is None else self.epsilon_high

    @property
    def _described(self) -> str:
        chosen = self.chosen_objective
        return f"objective: {self.objective} (aggregation {chosen.aggregation}, clip {chosen.clip})"

    def _refuse(self, keys: tuple[str, ...], because: str) -> None:
        """Raise for the first of the keys that is set, that is, neither null, `none` nor 0."""
        for key in keys:
            value = getattr(self, key)
            off = value is None or value == "none" or (key == "importance_mask" and value == 0.0)
            if not off:
                raise ValueError(f"{key}: {value} has no effect with {because}")
