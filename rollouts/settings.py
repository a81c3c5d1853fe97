"""The settings of rollouts, checked by pydantic. Light to import: no tokenizer, no engine."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Frozen; an unknown key is an error. The text under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Example(Settings):
    """An exchange to show before the first observation: what a user says, and the action that
    answers it.
    """

    observation: str
    action: str


class PromptSettings(Settings):
    """How an episode becomes text.

    `format`: `plain` shows the observation and then `> `, for small models made from scratch;
    `chat` goes through the tokenizer's chat template. `system` is said once, before the first
    observation. `think`: the action may begin with `<think>...</think>` and must stand in
    `<action>...</action>` tags (chat only). `examples` are exchanges that come before the episode,
    as they would be said in it (chat only); small pretrained models learn from them what to answer.
    """

    format: Literal["plain", "chat"] = "plain"
    system: str = ""
    show_admissible_commands: bool = False
    think: bool = False
    examples: tuple[Example, ...] = ()


class EpisodeSettings(Settings):
    """One episode: its limits and what its outcome is worth.

    Every reward of the environment is multiplied by `reward_scale`; an unparsable or inadmissible
    action then costs `invalid_action_penalty`. `timeout_seconds` bounds the whole episode. An
    environment that does not return from one reset or step within `env_timeout_seconds` holds up
    all others of its process, which is then ended and replaced.
    """

    max_turns: int = Field(default=30, ge=1)
    max_action_tokens: int = Field(default=16, ge=1)
    reward_scale: float = 1.0
    invalid_action_penalty: float = Field(default=0.0, ge=0.0)
    timeout_seconds: float = Field(default=600.0, gt=0.0)
    env_timeout_seconds: float = Field(default=60.0, gt=0.0)


class ServingSettings(Settings):
    """The vLLM engine and the processes beside it.

    `context_length` in tokens; 0 takes the model's own. `kv_cache_gib` sizes the KV cache on CPU
    and `gpu_memory_utilization` on GPU. `threads` is the engine's OpenMP threads on CPU. `dtype:
    auto` is bfloat16 where the device has it in hardware, and float32 elsewhere.
    """

    context_length: int = Field(default=0, ge=0)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_concurrent: int = Field(default=64, ge=1)
    kv_cache_gib: float = Field(default=1.0, gt=0.0)
    gpu_memory_utilization: float = Field(default=0.5, gt=0.0, le=1.0)
    threads: int = Field(default=1, ge=1)


class WorkerSettings(Settings):
    """The processes that hold the environments, and the environments (episodes at once) in each."""

    count: int = Field(default=2, ge=1)
    envs_per_worker: int = Field(default=8, ge=1)
