"""One coroutine, one episode: the exchange between one environment and the policy."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from envs import Task, TextEnv, reset_fault, step_fault
from rollouts.renderer import Renderer
from rollouts.seeds import derive_seed
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, ParsedAction, StopReason, Trajectory, Turn

EnvFailure = (Exception, SystemExit)
"""What an environment may fail with; the PDDL translator of text worlds raises `SystemExit`."""


class Policy(Protocol):
    """Whatever samples an action for a prompt."""

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        """Sample up to `max_tokens` ids after `token_ids`, ending with the first stop id, which is
        kept.

        `temperature` 0 takes the likeliest token. The log-probs are those of the distribution
        sampled from.
        """


class EpisodeOver(Exception):
    """Inside this package: the episode under way ends now, for `reason`."""

    def __init__(self, reason: StopReason, error: str = "") -> None:
        super().__init__(reason, error)
        self.reason, self.error = reason, error


@dataclass
class Recorder:
    """An episode that is under way: what has been said so far, and the clock. Raises `EpisodeOver`
    at its end.
    """

    env: TextEnv
    task: Task
    limit_seconds: float
    turns: list[Turn] = field(default_factory=list)
    observation: str = ""
    admissible: list[str] | None = None
    env_seconds: float = 0.0
    policy_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float:
        return self.started + self.limit_seconds - time.monotonic()

    def reset(self) -> dict[str, Any]:
        """Start the task; a ValueError of the environment is the user's to see, everything else is
        an ending.
        """
        begin = time.monotonic()
        try:
            answer = self.env.reset(seed=self.task.seed, options={"task": self.task})
        except ValueError:
            raise
        except EnvFailure as error:
            raise EpisodeOver(StopReason.ENV_ERROR, f"reset: {describe(error)}") from error
        self.env_seconds += time.monotonic() - begin
        if fault := reset_fault(answer):
            raise EpisodeOver(StopReason.ENV_ERROR, f"reset {fault}")
        self.observation, info = answer
        self.admissible = info.get("admissible_commands")
        return info

    def step(self, command: str) -> tuple[float, StopReason | None, dict[str, Any]]:
        """Send a command: the environment's reward, why the episode is over (None: it goes on),
        info.
        """
        begin = time.monotonic()
        try:
            answer = self.env.step(command)
        except EnvFailure as error:
            raise EpisodeOver(
                StopReason.ENV_ERROR, f"step {command!r}: {describe(error)}"
            ) from error
        self.env_seconds += time.monotonic() - begin
        if fault := step_fault(answer):
            raise EpisodeOver(StopReason.ENV_ERROR, f"step {command!r} {fault}")
        self.observation, reward, terminated, truncated, info = answer
        self.admissible = info.get("admissible_commands")
        if info["success"]:
            return reward, StopReason.SUCCESS, info
        if terminated:
            return reward, StopReason.FAILURE, info
        if truncated:
            return reward, StopReason.TRUNCATED, info
        return reward, StopReason.TIMEOUT if self.seconds_left <= 0 else None, info

    async def ask(self, request: Awaitable[Completion]) -> Completion:
        """Wait for the policy, at most as long as the episode may still take."""
        begin = time.monotonic()
        try:
            async with asyncio.timeout(self.seconds_left) as limit:
                return await request
        except Exception as error:
            if limit.expired():
                raise EpisodeOver(StopReason.TIMEOUT) from error
            raise EpisodeOver(StopReason.POLICY_ERROR, describe(error)) from error
        finally:
            self.policy_seconds += time.monotonic() - begin

    def end(self, reason: StopReason, error: str = "") -> Trajectory:
        return Trajectory(
            task=self.task,
            turns=tuple(self.turns),
            stop_reason=reason,
            success=reason is StopReason.SUCCESS,
            final_observation=self.observation,
            error=error,
            env_seconds=self.env_seconds,
            policy_seconds=self.policy_seconds,
        )


async def run_episode(
    env: TextEnv,
    task: Task,
    policy: Policy,
    renderer: Renderer,
    settings: EpisodeSettings,
    *,
    context_length: int,
    temperature: float,
    seed: int | None = None,
) -> Trajectory:
    """Play `task` to its end. Every ending, a failing environment or policy too, is a `StopReason`.

    `context_length` in tokens holds the prompt and a whole action. With `seed`, every turn is
    sampled with a seed derived from it. The environment is called in this thread, so the calls of
    other episodes wait for it.

    Raises:
        ValueError: the environment refuses the task, or the first prompt does not fit into the
        context.
    """
    record = Recorder(env, task, settings.timeout_seconds)
    try:
        record.reset()
        delta = renderer.first(record.observation, record.admissible)
        check_first_prompt(task, len(delta), settings, context_length)
        prompt: list[int] = []
        for turn in range(settings.max_turns):
            prompt += delta
            if len(prompt) + settings.max_action_tokens > context_length:
                raise EpisodeOver(StopReason.CONTEXT_FULL)
            request = policy.complete(
                tuple(prompt),
                max_tokens=settings.max_action_tokens,
                temperature=temperature,
                stop_token_ids=renderer.end_token_ids,
                seed=None if seed is None else derive_seed(seed, turn),
            )
            completion = await record.ask(request)
            prompt += completion.token_ids
            act(record, delta, completion, renderer.parse(completion), settings)
            delta = renderer.following(
                record.observation, record.admissible, completion.finish_reason
            )
            await asyncio.sleep(0)
    except EpisodeOver as over:
        return record.end(over.reason, over.error)
    return record.end(StopReason.MAX_TURNS)


def act(
    record: Recorder,
    delta: tuple[int, ...],
    completion: Completion,
    action: ParsedAction,
    settings: EpisodeSettings,
) -> dict[str, Any]:
    """Send an action to the environment and record the turn; an unparsable one goes as its raw
    text.
    """
    shown, admissible = record.observation, is_admissible(action, record.admissible)
    env_reward, ending, info = record.step(
        action.text if action.command is None else action.command
    )
    penalty = 0.0 if admissible else settings.invalid_action_penalty
    record.turns.append(
        Turn(
            observation=shown,
            prompt_token_ids=delta,
            completion=completion,
            action=action,
            admissible=admissible,
            reward=settings.reward_scale * float(env_reward) - penalty,
        )
    )
    if ending is not None:
        raise EpisodeOver(ending)
    return info


def is_admissible(action: ParsedAction, admissible: Sequence[str] | None) -> bool:
    """Whether the action has a command that the environment offered; one that lists none takes all."""
    return action.command is not None and (admissible is None or action.command in admissible)


def check_first_prompt(
    task: Task, length: int, settings: EpisodeSettings, context_length: int
) -> None:
    """Raise the ValueError of a first prompt of `length` tokens that leaves no room for an action."""
    if length + settings.max_action_tokens > context_length:
        raise ValueError(
            f"task {task.id!r}: the first prompt has {length} tokens and an action up to {settings.max_action_tokens} "
            f"(episode.max_action_tokens), but the context holds {context_length}; raise serving.context_length or "
            "take a model with a longer context, shorten prompt.system, or set prompt.show_admissible_commands: false"
        )


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
