"""The settings of the learner and of a model made from scratch, checked by pydantic. Light to
import: no torch.
"""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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

TokensWithin = Literal["words", "names"]
DEFAULT_IMPORTANCE_CAP = 2.0
_BOUNDS_OF: dict[str, ObjectiveName] = {"log": "gmpo", "ratio": "grpo", "weight": "cispo"}
"""The preset whose bounds a clip has where an objective of another clip is given it."""


class LoraSettings(Settings):
    """Train a low-rank adapter (LoRA, arXiv 2106.09685) in the place of the weights: a layer W of
    `target_modules` computes W x + (alpha / rank) B A x, and only A and B are trained.

    `target_modules` are the last parts of layers' names, such as `[q_proj, v_proj]`; `all-linear`
    is every linear layer of the decoder. There is no dropout: it would make the old log-probs and
    the new ones those of different policies.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    @field_validator("target_modules", mode="before")
    @classmethod
    def _names_or_all(cls, value: Any) -> Any:
        names = (
            isinstance(value, list | tuple)
            and value
            and all(isinstance(name, str) and name for name in value)
        )
        if value != "all-linear" and not names:
            raise ValueError(
                "write all-linear, or a list of layers' names such as [q_proj, v_proj]"
            )
        return value


class ModelSettings(Settings):
    """The policy: loaded from `path` (a Hugging Face folder, a hub name or a `.gguf` file), or,
    where that is empty, made from scratch in the Llama architecture with what follows. With `lora`
    the reinforcement trains an adapter on top of it; the warm start trains all weights.

    Its tokenizer is trained on text of `corpus_tasks` training tasks. What becomes one token lies
    within `words`, or within `names`, where a word and its number ("drawer 12") are one, so that to
    name a thing is a single choice; there are about a thousand of them in ALFWorld, so `vocab_size`
    has to be larger. `tied`: one matrix reads tokens and predicts them. `context_length` in tokens.
    Attention is a third to a half of a small model's time on CPU, and costs less with few heads of
    64 than with more of 32.
    """

    path: str = ""
    corpus_tasks: int = Field(default=64, ge=1)
    vocab_size: int = Field(default=1024, ge=259)
    tokens_within: TokensWithin = "words"
    tied: bool = False
    hidden_size: int = Field(default=128, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=2, ge=1)
    kv_heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=384, ge=8)
    context_length: int = Field(default=1024, ge=16)
    lora: LoraSettings | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 32:
            raise ValueError(
                f"hidden_size {self.hidden_size} over heads {self.heads} is no multiple of 32, which vLLM's attention "
                "on CPU needs: choose others"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}: choose a divisor"
            )
        return self


class LearnerSettings(Settings):
    """How finished episodes become updates. What an objective does not use must stay unset (null).

    `objective` names a preset (`agent_rl.objective.presets`), and `aggregation`, `clip`,
    `normalisation`, `advantage`, `epsilon` and `epsilon_high` replace its parts; `epsilon_high:
    null` is the preset's, or `epsilon` where that is given. `normalisation_length` in tokens is
    what `normalisation: constant` divides by; null is the most that an episode's actions can have.
    `beta` weighs the KL divergence from the policy that the run started with, `entropy_bonus` the
    entropy, both normalised like the objective. `turn_discount` and `turn_advantage_weight` belong
    to `advantage: turn_groups`.

    `old_logprobs`: recomputed by the `learner` before the first optimizer step, or the `sampler`'s
    own. In the first case `importance` corrects for the sampler's differing a little: with a weight
    learner/sampler for each `token`, for the product over a `sequence`, or for its `geometric`
    mean, at most `importance_cap` (0: not capped); beyond `importance_mask` or below its inverse a
    token or sequence is left out (0: none is).

    `learning_rate` is AdamW's. With a `muon_learning_rate` the matrices of the decoder's layers are
    trained by Muon at that rate instead, in one rank.

    `optimizer_steps` per rollout step. `micro_batch_tokens` bounds the tokens of one forward pass;
    `share_prefixes` computes once what samples of a pass begin with alike. `logit_chunk` bounds the
    agent's tokens whose logits exist at a time. `dtype: bfloat16` is autocast, and the weights stay
    as loaded; `auto` is bfloat16 where the device has it in hardware, and float32 elsewhere.
    `activation_checkpointing` keeps each layer's input only, and computes the layer again for its
    gradient. `threads` on CPU; 0 leaves torch's choice. `ranks` are processes that share the model
    and the samples.
    """

    objective: ObjectiveName = "gmpo"
    aggregation: Aggregation | None = None
    clip: Clip | None = None
    normalisation: Normalisation | None = None
    normalisation_length: int | None = Field(default=None, ge=1)
    advantage: AdvantageName | None = None
    turn_discount: float | None = Field(default=None, gt=0.0, le=1.0)
    turn_advantage_weight: float | None = Field(default=None, ge=0.0)
    epsilon: float | None = Field(default=None, gt=0.0)
    epsilon_high: float | None = Field(default=None, gt=0.0)
    beta: float = Field(default=0.0, ge=0.0)
    entropy_bonus: float = Field(default=0.0, ge=0.0)

    old_logprobs: Literal["learner", "sampler"] = "learner"
    importance: ImportanceName | None = None
    importance_cap: float | None = Field(default=None, ge=0.0)
    importance_mask: float = Field(default=0.0, ge=0.0)

    optimizer_steps: int = Field(default=4, ge=1)
    micro_batch_tokens: int = Field(default=4096, ge=1)
    share_prefixes: bool = True
    logit_chunk: int = Field(default=4096, ge=1)
    learning_rate: float = Field(default=1e-6, gt=0.0)
    muon_learning_rate: float | None = Field(default=None, gt=0.0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.95)

    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    ranks: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _objective_fits_together(self) -> Self:
        chosen = self.chosen_objective
        what = f"objective: {self.objective} (aggregation {chosen.aggregation}, clip {chosen.clip})"
        if chosen.clip == "none":
            for key in ("epsilon", "epsilon_high"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: {getattr(self, key)} has no effect with {what}; remove it, or set clip"
                    )
        if chosen.clip == "weight" and chosen.aggregation != "token":
            raise ValueError(f"clip: weight goes with aggregation: token; {what} is another one")
        if chosen.clip in ("ratio", "weight") and chosen.epsilon > 1.0:
            raise ValueError(
                f"epsilon: {chosen.epsilon} leaves no lower bound 1 - epsilon; use at most 1 with {what}"
            )
        if self.normalisation_length is not None and chosen.normalisation != "constant":
            raise ValueError(
                f"normalisation_length: {self.normalisation_length} has no effect with normalisation: "
                f"{chosen.normalisation}; remove it, or use constant"
            )
        if chosen.advantage != "turn_groups":
            for key in ("turn_discount", "turn_advantage_weight"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key}: {getattr(self, key)} has no effect with advantage: {chosen.advantage}; remove it, "
                        "or use turn_groups"
                    )
        elif chosen.aggregation in ("episode", "sequence"):
            raise ValueError(
                f"advantage: turn_groups gives each turn its own, but aggregation: {chosen.aggregation} needs one for "
                "an episode; use aggregation: turn or token"
            )
        return self

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Self:
        given = {
            "importance": self.importance not in (None, "none"),
            "importance_cap": self.importance_cap is not None,
            "importance_mask": self.importance_mask > 0.0,
        }
        if self.old_logprobs == "sampler" and any(given.values()):
            key = next(key for key, is_given in given.items() if is_given)
            raise ValueError(
                f"{key}: {getattr(self, key)} has no effect with old_logprobs: sampler, whose ratios are the sampler's "
                "already; remove it, or use old_logprobs: learner"
            )
        if self.importance == "none":
            for key in ("importance_cap", "importance_mask"):
                if given[key]:
                    raise ValueError(
                        f"{key}: {getattr(self, key)} has no effect with importance: none; remove it, or set importance"
                    )
        if self.importance_cap and self.importance_cap < 1.0:
            raise ValueError(
                f"importance_cap: {self.importance_cap} would shrink every weight; use 0 (no cap) or at least 1"
            )
        if self.importance_cap and 0.0 < self.importance_mask <= self.importance_cap:
            raise ValueError(
                f"importance_cap: {self.importance_cap} has no effect with importance_mask: {self.importance_mask}, "
                "beyond which nothing is kept; remove it, or use less than the mask"
            )
        if self.importance_mask and self.importance_mask <= 1.0:
            raise ValueError(
                f"importance_mask: {self.importance_mask} would leave everything out; use 0 (off) or more than 1"
            )
        if self.muon_learning_rate is not None and self.ranks > 1:
            raise ValueError(
                f"muon_learning_rate: {self.muon_learning_rate} needs whole matrices, which ranks: {self.ranks} share "
                "out; use ranks: 1, or leave it out"
            )
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas: {list(self.betas)} must lie in [0, 1)")
        return self

    @property
    def chosen_objective(self) -> Objective:
        """The preset with the parts that replace its own."""
        preset = PRESETS[self.objective]
        parts = {
            key: getattr(self, key)
            for key in ("aggregation", "clip", "normalisation", "advantage", "epsilon")
            if getattr(self, key) is not None
        }
        if self.epsilon_high is not None or self.epsilon is not None:
            parts["epsilon_high"] = self.epsilon if self.epsilon_high is None else self.epsilon_high
        chosen = replace(preset, **parts)
        if self.clip == "none":
            return replace(chosen, epsilon=0.0, epsilon_high=0.0)
        if self.clip in _BOUNDS_OF and self.clip != preset.clip:
            # The preset's bounds are those of another kind of clip.
            default = PRESETS[_BOUNDS_OF[self.clip]]
            low = default.epsilon if self.epsilon is None else self.epsilon
            high = parts.get("epsilon_high", default.epsilon_high)
            chosen = replace(chosen, epsilon=low, epsilon_high=high)
        return chosen

    @property
    def chosen_importance(self) -> Importance:
        """How the sampler's mismatch is corrected."""
        if self.old_logprobs == "sampler" or self.importance == "none":
            return Importance()
        cap = DEFAULT_IMPORTANCE_CAP if self.importance_cap is None else self.importance_cap
        return Importance(level=self.importance or "token", cap=cap, mask=self.importance_mask)
