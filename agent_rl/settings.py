"""The settings of the learner and of a model made from scratch, checked by pydantic. Light to import: no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rollouts.settings import Settings

ObjectiveName = Literal["gmpo", "grpo"]
Scope = Literal["episode", "turn"]
DEFAULT_TIS_CAP = 2.0


class ModelSettings(Settings):
    """The policy: loaded from `path` (a Hugging Face folder, a hub name or a `.gguf` file), or, where that is empty,
    made from scratch in the Llama architecture with what follows.

    Its tokenizer is trained on text of `corpus_tasks` training tasks. `context_length` in tokens. Attention is a third
    to a half of a small model's time on CPU, and costs less with few heads of 64 than with more of 32.
    """

    path: str = ""
    corpus_tasks: int = Field(default=64, ge=1)
    vocab_size: int = Field(default=1024, ge=259)
    hidden_size: int = Field(default=128, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=2, ge=1)
    kv_heads: int = Field(default=2, ge=1)
    intermediate_size: int = Field(default=384, ge=8)
    context_length: int = Field(default=1024, ge=16)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 32:
            raise ValueError(
                f"hidden_size {self.hidden_size} over heads {self.heads} is no multiple of 32, which vLLM's attention "
                "on CPU needs: choose others"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}: choose a divisor")
        return self


class LearnerSettings(Settings):
    """How finished episodes become updates. What an objective does not use must stay unset (null).

    `clip_low` and `clip_high`: gmpo clips log-ratios to (-low, +high), default 0.4; grpo clips ratios to
    (1 - low, 1 + high), default 0.2. `scope` (gmpo): one geometric mean per `episode` (default) or per `turn`.
    `old_logprobs`: recomputed by the `learner` before the first optimizer step, or the `sampler`'s own.
    `tis_cap` truncates the importance weight learner/sampler of a token; 0 is off, the default is 2 with
    `old_logprobs: learner`. `optimizer_steps` per rollout step. `micro_batch_tokens` bounds the padded tokens of one
    forward pass. `dtype: bfloat16` is autocast; the weights stay as loaded. `threads` on CPU; 0 leaves torch's choice.
    """

    objective: ObjectiveName = "gmpo"
    clip_low: float | None = Field(default=None, gt=0.0)
    clip_high: float | None = Field(default=None, gt=0.0)
    scope: Scope | None = None
    old_logprobs: Literal["learner", "sampler"] = "learner"
    tis_cap: float | None = Field(default=None, ge=0.0)

    optimizer_steps: int = Field(default=4, ge=1)
    micro_batch_tokens: int = Field(default=4096, ge=1)
    learning_rate: float = Field(default=1e-6, gt=0.0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    betas: tuple[float, float] = (0.9, 0.95)

    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _only_what_is_used(self) -> Self:
        if self.objective == "grpo" and self.scope is not None:
            raise ValueError(f"scope: {self.scope} has no effect with objective: grpo; remove it, or use gmpo")
        if self.objective == "grpo" and self.clip_low is not None and self.clip_low >= 1.0:
            raise ValueError(f"clip_low: {self.clip_low} must be below 1 for grpo, whose lower bound is 1 - clip_low")
        if self.tis_cap and self.old_logprobs == "sampler":
            raise ValueError(
                f"tis_cap: {self.tis_cap} has no effect with old_logprobs: sampler, whose ratios are the sampler's "
                "already; remove it, or use old_logprobs: learner"
            )
        if self.tis_cap and self.tis_cap < 1.0:
            raise ValueError(f"tis_cap: {self.tis_cap} would shrink every token's weight; use 0 (off) or at least 1")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas: {list(self.betas)} must lie in [0, 1)")
        return self

    @property
    def clip_range(self) -> tuple[float, float]:
        """`(low, high)`: the given values, or the objective's default."""
        default = 0.4 if self.objective == "gmpo" else 0.2
        low = default if self.clip_low is None else self.clip_low
        high = default if self.clip_high is None else self.clip_high
        return low, high

    @property
    def effective_tis_cap(self) -> float:
        """The cap in use; 0 is off."""
        if self.old_logprobs == "sampler":
            return 0.0
        return DEFAULT_TIS_CAP if self.tis_cap is None else self.tis_cap
