"""The settings of rollouts, checked by pydantic. Light to import: no tokenizer, no engine.

The docstring under each field is its line in `docs/configuration.md`.
"""

from datetime import date
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from rollouts.actions import TAGS

_STARTS, _LEAST_START_SECONDS = 10.0, 300.0
"""The limit of a start, in times of a call's and at least: libraries and weights are loaded."""


HISTORIES = ("full", "window", "observations", "summary")
"""The values of `prompt.history` that name no code."""


class Settings(BaseModel):
    """The base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Example(Settings):
    """An exchange to show before the first observation."""

    observation: str
    """The text of the user's message, written as an observation of the episode would be."""
    action: str
    """The answer to it, written as the policy should write its actions."""


class PromptSettings(Settings):
    """How an episode becomes text."""

    format: Literal["plain", "chat"] = "plain"
    """`plain` writes the observation and `> `, for small models made from scratch; `chat` uses the
    tokenizer's chat template, which pretrained models know."""
    system: str = ""
    """Instructions before the first observation; empty leaves them out."""
    show_admissible_commands: bool = False
    """Whether each prompt lists the commands that the environment accepts now. Off by default, as
    the lists take many tokens."""
    think: bool = False
    """Whether an action may begin with `<think>...</think>` and must be in `<action>...</action>`
    (`chat` only)."""
    thought_end: str = "\n</think>\n\n"
    """What ends a thought for the policy after `episode.max_thought_tokens`. It is not trained. It
    may go on with `<action>`."""
    text_after_action: Literal["refuse", "ignore"] = "refuse"
    """What an answer with more text after its action is worth. `refuse`: it is no valid action.
    `ignore`: the action is the first line, or with `think` the first `<action>...</action>`. Then
    it is also valid if the token limit cuts off what follows it."""
    stop: tuple[str, ...] = ()
    """Texts that end an action, besides the model's end tokens: `["\\n"]`, or with `think`
    `["</action>"]`. The tokens up to the one that completes a text are kept and trained. The
    command lacks the text and what follows it; `</action>` stays."""
    examples: tuple[Example, ...] = ()
    """Exchanges shown before the episode (`chat` only); they teach a small pretrained model the
    form of an answer."""
    template: str = ""
    """File with a chat template (jinja) in place of the tokenizer's own (`chat` only). Its text
    becomes the tokenizer's, so checkpoints and exports have it."""
    template_options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template, such as `{enable_thinking: false}` (`chat` only).
    `strftime_now` is what its clock shows. docs/prompts.md names those of known models."""
    history: str = "full"
    """What a prompt shows of the turns before. `full`: all. `window`: the first observation and the
    last turns. `observations`: all observations and no action. `summary`: the first observation,
    the policy's own summary, and the turns since. `module:function`: as `window`, with the text
    that the function returns for the turns left out. All but `full` write new prompts, which the
    prefix cache and the learner cannot share (docs/prompts.md)."""
    history_thoughts: bool = True
    """Whether the actions of earlier turns are shown with their thoughts (`think` only). `false`
    shows the command in its tags; an answer without a command is shown from the end of its thought
    on. Each turn then has a new prompt (docs/prompts.md)."""
    window: int = Field(default=2, ge=0)
    """Turns that `history: window` or `module:function` shows in full, and after which `summary`
    asks for one."""
    summary_request: str = "Sum up in a few words what you have seen and done, and what is left."
    """What `history: summary` asks the policy for, after the observation."""
    summary_tokens: int = Field(default=64, ge=1)
    """Tokens that such a summary may take, its end token included."""

    @field_validator("template_options")
    @classmethod
    def _dates_are_texts(cls, value: dict[str, Any]) -> dict[str, Any]:
        # YAML reads 2024-07-26 as a date, and templates join texts.
        return {name: str(v) if isinstance(v, date) else v for name, v in value.items()}

    @field_validator("history")
    @classmethod
    def _known_history(cls, value: str) -> str:
        if ":" not in value and value not in HISTORIES:
            raise ValueError(
                f"{value!r} is none of {', '.join(HISTORIES)} and names no module:function"
            )
        return value

    @field_validator("thought_end")
    @classmethod
    def _ends_a_thought(cls, value: str) -> str:
        begin, end, action, _ = TAGS
        before, _, after = value.partition(end)
        if value.count(end) != 1 or begin in before or after.strip() not in ("", action):
            raise ValueError(
                f"it does not end a thought and let an action follow; write {end} once, and after "
                f"it only white space or {action}"
            )
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _stops_are_texts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("an empty text would end every action before it begins; remove it")
        return value

    @model_validator(mode="after")
    def _stops_after_an_action_began(self) -> Self:
        begun = f"{TAGS[0]}{TAGS[1]}{TAGS[2]}"
        for text in self.stop:
            if self.think and text in begun:
                raise ValueError(
                    f"stop: {text!r} ends each answer before its command, as an answer begins "
                    f"{begun} with think: true; use another text, such as {TAGS[3]}"
                )
        return self

    @model_validator(mode="after")
    def _summaries_after_turns(self) -> Self:
        if self.history == "summary" and not self.window:
            raise ValueError("window: 0 turns before each summary; history: summary needs 1")
        return self

    @model_validator(mode="after")
    def _thoughts_to_leave_out(self) -> Self:
        if self.history_thoughts:
            return self
        if not self.think:
            raise ValueError(
                "history_thoughts: false leaves thoughts out, but with think: false an answer has "
                "none; remove it, or set think: true"
            )
        if self.history == "observations":
            raise ValueError(
                "history_thoughts: false has no effect with history: observations, which shows no "
                "action; remove it"
            )
        if self.history != "full" and not self.window:
            raise ValueError(
                "history_thoughts: false has no effect with window: 0, which shows no action; "
                "remove it, or use window: 1 or more"
            )
        return self


class EpisodeSettings(Settings):
    """The limits of one episode, and its rewards."""

    max_turns: int = Field(default=30, ge=1)
    """Turns before the episode ends as `max_turns`. 30 fits small worlds; ALFWorld's convention
    is 50."""
    max_action_tokens: int = Field(default=16, ge=1)
    """Tokens that one action may take, its end token included. The default fits a short command;
    raise it for `prompt.think`. With `max_thought_tokens` a thought is not among them."""
    max_thought_tokens: int = Field(default=0, ge=0)
    """Tokens that the thought before an action may take (`prompt.think`). One that is longer is cut
    off, and `prompt.thought_end` is written for the policy, which then acts. 0 sets no limit of its
    own: thought and action together have `max_action_tokens`."""
    reward_scale: float = 1.0
    """Factor for every reward of the environment; 1 keeps them as they are."""
    invalid_action_penalty: float = Field(default=0.0, ge=0.0)
    """Reward subtracted for an action that cannot be parsed or is not admissible; 0 is no
    penalty."""
    repeated_action_penalty: float = Field(default=0.0, ge=0.0)
    """Reward subtracted, besides `invalid_action_penalty`, for an invalid action that says the same
    as the invalid one right before it; 0 is no penalty."""
    seen_observation_penalty: float = Field(default=0.0, ge=0.0)
    """Reward subtracted for an action after which the environment says what it has said before in
    the episode; 0 is no penalty. It is for searches: going where one has been shows nothing new."""
    timeout_seconds: float = Field(default=600.0, gt=0.0)
    """Seconds of its own before the episode ends as `timeout`, which counts like `max_turns`: the
    time of its environment's calls and of its policy's sampling. Its waits for other episodes, in
    its worker process or in the engine's queue, are left out. The default is far above a healthy
    episode."""
    env_timeout_seconds: float = Field(default=60.0, gt=0.0)
    """Seconds that one call of the environment may take. A longer reset or step blocks every
    episode of its worker process, so the pool then replaces that process. So it does with a process
    that answers nothing for as long, and for 20 s at least. A longer constructor or `tasks()` ends
    the run. The start of a worker process may take ten times as long, and 300 s at least."""

    @property
    def max_sampled_tokens(self) -> int:
        """Tokens that the policy may sample in a turn."""
        return self.max_thought_tokens + self.max_action_tokens

    @property
    def start_timeout_seconds(self) -> float:
        """Seconds that the start of a worker process may take."""
        return max(_STARTS * self.env_timeout_seconds, _LEAST_START_SECONDS)


class ServingSettings(Settings):
    """The vLLM engine that samples the policy's actions."""

    context_length: int = Field(default=0, ge=0)
    """Context in tokens that the engine serves; 0 is the model's own. A shorter one needs less
    memory for each request."""
    deterministic: bool = False
    """Whether an answer depends on its prompt, the weights and its seed only, to the last bit, so
    that two runs of one seed are the same run. It needs a CPU, one thread and float32, and turns
    the prefix cache off: each prompt is computed anew in every turn, which
    docs/reproducibility.md prices."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", validate_default=True
    )
    """Number format of the served weights; `auto` is bfloat16 if the device multiplies it in
    hardware, else float32.
    With `deterministic` it is float32."""
    max_concurrent: int = Field(default=64, ge=1)
    """Requests that the engine samples at the same time; further ones wait."""
    kv_cache_gib: float = Field(default=1.0, gt=0.0)
    """Size of the KV cache in GiB on CPU, in each process of an engine; 1 is enough for a small
    model."""
    gpu_memory_utilization: float = Field(default=0.5, gt=0.0, le=1.0)
    """Share of the GPU's memory for the engine; half of it is left to the learner."""
    keep_cache: bool = False
    """Whether requests in flight keep their keys and values when new weights come in, as PipelineRL
    does. That saves the prefill of each, but their next ids are then sampled from a mix of old and
    new weights, so their log-probs are no model's own. Off, everything is computed anew, which is
    exact. New requests never read keys and values of older weights."""
    lora: Literal["merged", "adapter"] = "merged"
    """How the engine gets a policy that is trained with `model.lora`. `merged`: whole weights, with
    the adapter merged in. `adapter`: the base's weights once, and then the adapter alone
    (docs/adapters.md compares them)."""
    threads: int = Field(default=1, ge=1)
    """OpenMP threads of each process of the engine on CPU; 1 leaves the other cores to environments
    and learner."""
    replicas: int = Field(default=1, ge=1)
    """Engines with a copy of the weights each; on GPUs each takes `tensor_parallel` of them. The
    episodes of a group stay with one engine, whose cache holds what they share."""
    tensor_parallel: int = Field(default=1, ge=1)
    """Processes that share an engine's model out, each with a part of every layer; on GPUs each
    takes one. It is for a model that one GPU cannot hold, and has to divide the model's attention
    heads."""
    sleep: bool = False
    """Whether the engine gives a GPU's memory back while the learner updates, and takes it again
    with the new weights. So the two share one GPU, each with nearly all of it in turn: raise
    `gpu_memory_utilization` to what the learner's weights and optimizer leave. It needs one GPU,
    and `train.look_ahead: 0`."""
    step_timeout_seconds: float = Field(default=120.0, gt=0.0)
    """Seconds that one step of an engine may take, such as a token for all its requests. An engine
    that takes longer hangs: it is replaced, and gets its requests again. Its start may take ten
    times as long, and 300 s at least."""
    max_restarts: int = Field(default=8, ge=0)
    """Times in a row that engines that hang or die may be replaced, without an episode that ends in
    between. Then the run stops."""

    @property
    def start_timeout_seconds(self) -> float:
        """Seconds that the start of an engine may take."""
        return max(_STARTS * self.step_timeout_seconds, _LEAST_START_SECONDS)

    @field_validator("dtype")
    @classmethod
    def _deterministic_in_float32(cls, value: str, info: ValidationInfo) -> str:
        if not info.data.get("deterministic"):
            return value
        if value not in ("auto", "float32"):
            # The products of some CPUs in these formats depend on the number of rows.
            raise ValueError(
                f"{value} may round by what else is sampled; with deterministic: true "
                "use float32 or auto"
            )
        return "float32"

    @model_validator(mode="after")
    def _deterministic_in_one_thread(self) -> Self:
        if self.deterministic and self.threads > 1:
            raise ValueError(
                f"threads: {self.threads} threads share the requests of a batch out, and round by "
                "it; with deterministic: true use threads: 1"
            )
        return self

    @model_validator(mode="after")
    def _deterministic_in_one_process(self) -> Self:
        if self.deterministic and self.tensor_parallel > 1:
            raise ValueError(
                f"tensor_parallel: {self.tensor_parallel} is not tested with deterministic: true; "
                "use tensor_parallel: 1"
            )
        return self

    @model_validator(mode="after")
    def _sleeps_alone(self) -> Self:
        if not self.sleep:
            return self
        for key in ("replicas", "tensor_parallel"):
            if (count := getattr(self, key)) > 1:
                raise ValueError(
                    f"{key}: {count} takes several GPUs, but with sleep: true one engine shares "
                    f"one GPU with the learner; use {key}: 1, or sleep: false"
                )
        if self.deterministic:
            raise ValueError(
                "sleep: true needs a GPU, and deterministic: true a CPU; use one of them"
            )
        return self

    @model_validator(mode="after")
    def _adapter_where_it_is_known(self) -> Self:
        for key in ("deterministic", "sleep"):
            if self.lora == "adapter" and getattr(self, key):
                raise ValueError(f"lora: adapter is not tested with {key}: true; use lora: merged")
        return self

    @property
    def gpus(self) -> int:
        """The GPUs that all engines take, where there are GPUs."""
        return self.replicas * self.tensor_parallel


class WorkerSettings(Settings):
    """The worker processes that hold the environments."""

    count: int = Field(default=2, ge=1)
    """Number of worker processes; about one per core, as a process plays in one thread."""
    envs_per_worker: int = Field(default=8, ge=1)
    """Environments in each process, and so episodes at once. While one waits for the policy, the
    others play."""
    max_failed_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the tasks that may fail before a run stops. A task fails if its environment fails in
    all of its episodes, or if its first prompt does not fit into the context. It is recorded, and
    left out of scores and training. A run in which all tasks fail stops in any case."""
    max_restarts: int = Field(default=16, ge=0)
    """Times in a row that worker processes that hang or die may be replaced, without an episode
    that ends in between. Then the run stops."""
