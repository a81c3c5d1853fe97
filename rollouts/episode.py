"""Plays one episode: the exchange between one environment and the policy, as one coroutine.

The prompt of a turn is everything so far, if the history is full. Ids are then only appended, and
never rendered again:

    prompt = first(observation)                   the policy samples a completion after it
    prompt = prompt + completion + following(...) and the next one after that, until an ending

A thought that takes more than `episode.max_thought_tokens` is cut off, and its end is written for
the policy. Thought and action are then two turns, of which the environment sees the second.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from envs import Task, TextEnv, reset_fault, step_fault
from rollouts.processes.loops import no_loop
from rollouts.renderer import Renderer
from rollouts.rendering.conversation import Conversation, Prompt
from rollouts.rendering.histories import Full, History, HistoryFailed
from rollouts.serving.sampling import Sampler, most_answer_tokens
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, ParsedAction, Policy, StopReason, Trajectory, Turn

EnvFailure = (Exception, SystemExit)
"""The errors of an environment; the PDDL translator of text worlds raises `SystemExit`."""
FULL = Full()
"""The history that forgets nothing."""
_LONGEST_WAIT = 1e9
"""In seconds; an event loop's clock takes no infinity."""


class EpisodeOver(Exception):
    """Ends the episode under way; it never leaves this package."""

    def __init__(self, reason: StopReason, error: str = "") -> None:
        """End for `reason`; `error` is the message of a failure."""
        super().__init__(reason, error)
        self.reason, self.error = reason, error


@dataclass
class Recorder:
    """An episode under way: its turns so far, and the clock. At its end it raises `EpisodeOver`."""

    env: TextEnv
    """The environment that plays."""
    task: Task
    """The task that is played."""
    limit_seconds: float
    """The time of its own that the episode may take (see `seconds_left`)."""
    turns: list[Turn] = field(default_factory=list)
    """The turns that have ended."""
    observation: str = ""
    """The text that the next action answers."""
    admissible: list[str] | None = None
    """The commands that the environment accepts now; None if it lists none."""
    advice: str | None = None
    """What the environment's expert would do now; None without one."""
    env_seconds: float = 0.0
    """Wall time spent in the environment's calls."""
    policy_seconds: float = 0.0
    """Wall time spent waiting for the policy."""
    sampling_seconds: float = 0.0
    """The part of it in which the policy worked on this episode (`Completion.seconds`)."""

    @property
    def seconds_left(self) -> float:
        """The time of its own that the episode may still take; negative if its time is up.

        Its own time is that of its environment's calls and of its policy's sampling. A wait for
        other episodes is not its own: a loaded machine must not end more episodes.
        """
        return self.limit_seconds - self.env_seconds - self.sampling_seconds

    def reset(self) -> dict[str, Any]:
        """Start the task, and return the environment's info.

        Raises:
            EpisodeOver: the environment failed, or its answer breaks the contract.
        """
        begin = time.monotonic()
        call = f"reset of task {self.task.id!r}"
        try:
            with no_loop():
                answer = self.env.reset(seed=self.task.seed, options={"task": self.task})
        except EnvFailure as error:
            raise EpisodeOver(StopReason.ENV_ERROR, f"{call}: {describe(error)}") from error
        self.env_seconds += time.monotonic() - begin
        if fault := reset_fault(answer):
            raise EpisodeOver(StopReason.ENV_ERROR, f"{call} {fault}")
        self.observation, info = answer
        self._read(info)
        return info

    def step(self, command: str) -> tuple[float, StopReason | None, dict[str, Any]]:
        """Send a command; return the environment's reward, the ending (None: none yet), and info.

        Raises:
            EpisodeOver: the environment failed, or its answer breaks the contract.
        """
        begin = time.monotonic()
        try:
            with no_loop():
                answer = self.env.step(command)
        except EnvFailure as error:
            raise EpisodeOver(
                StopReason.ENV_ERROR, f"step {command!r}: {describe(error)}"
            ) from error
        self.env_seconds += time.monotonic() - begin
        if fault := step_fault(answer):
            raise EpisodeOver(StopReason.ENV_ERROR, f"step {command!r} {fault}")
        self.observation, reward, terminated, truncated, info = answer
        self._read(info)
        return reward, self._ending(terminated, truncated, info), info

    def _read(self, info: dict[str, Any]) -> None:
        self.admissible = info.get("admissible_commands")
        self.advice = info.get("expert_command")

    def _ending(self, terminated: bool, truncated: bool, info: dict[str, Any]) -> StopReason | None:
        # The order matters: an episode that is decided counts as decided, even if its time is up.
        if info["success"]:
            return StopReason.SUCCESS
        if terminated:
            return StopReason.FAILURE
        if truncated:
            return StopReason.TRUNCATED
        return StopReason.TIMEOUT if self.seconds_left <= 0 else None

    def has_just_refused(self, action: ParsedAction) -> bool:
        """Whether the last action was invalid and said the same."""
        for turn in reversed(self.turns):
            if turn.kind == "action":
                return turn.has_refused(action)
        return False

    async def ask(self, request: Awaitable[Completion]) -> Completion:
        """Wait for the policy's completion.

        Raises:
            EpisodeOver: the policy failed, or a single answer took as long as a whole episode may.
        """
        begin = time.monotonic()
        try:
            # This wait includes that of the policy's queue, so it cannot judge the episode. It only
            # ends the wait for an engine that hangs.
            async with asyncio.timeout(min(self.limit_seconds, _LONGEST_WAIT)) as limit:
                completion = await request
        except Exception as error:
            # A policy may raise TimeoutError itself; only the limit knows whose it is.
            why = describe(error)
            if limit.expired():
                why = (
                    f"no answer within {self.limit_seconds:g} s (episode.timeout_seconds): the "
                    "serving engine hangs, or more episodes wait for it than it can serve in that "
                    "time (serving.max_concurrent)"
                )
            raise EpisodeOver(StopReason.POLICY_ERROR, why) from error
        else:
            self.sampling_seconds += completion.seconds
            return completion
        finally:
            self.policy_seconds += time.monotonic() - begin

    def end(self, reason: StopReason, error: str = "") -> Trajectory:
        """Return the trajectory of the episode, which ended for `reason`."""
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
    history: History = FULL,
) -> Trajectory:
    """Play `task` to its end; a failure of the environment or the policy is a `StopReason` too.

    The environment is called in this thread, so other episodes wait while a call runs. It may run
    an event loop of its own.

    Args:
        context_length: in tokens; it must hold the prompt and a full-length answer.
        temperature: the sampling temperature; 0 is greedy.
        seed: every request has a seed derived from it; None draws at random.
        history: chooses what each prompt shows of the turns before.
    """
    record = Recorder(env, task, settings.timeout_seconds)
    playing = _PolicyEpisode(
        record=record,
        conversation=Conversation(renderer, history),
        sampler=Sampler(
            policy=policy,
            renderer=renderer,
            settings=settings,
            temperature=temperature,
            seed=seed,
            ask=record.ask,
        ),
        renderer=renderer,
        settings=settings,
        context_length=context_length,
    )
    try:
        record.reset()
        for _ in range(settings.max_turns):
            await playing.sum_up()
            await playing.act()
            # A policy that answers at once would never give the thread to the other episodes.
            await asyncio.sleep(0)
    except EpisodeOver as over:
        return record.end(over.reason, over.error)
    return record.end(StopReason.MAX_TURNS)


@dataclass(kw_only=True)
class _PolicyEpisode:
    """An episode of the policy under way; the other fields are arguments of `run_episode`."""

    record: Recorder
    conversation: Conversation
    sampler: Sampler
    renderer: Renderer
    settings: EpisodeSettings
    context_length: int

    @property
    def most(self) -> int:
        """The most tokens of an answer."""
        return most_answer_tokens(self.settings, self.renderer)

    async def act(self) -> None:
        """Play a turn. Raises `EpisodeOver` if the episode ends with it, or before."""
        observation = self.record.observation
        try:
            prompt = self.conversation.prompt(observation, self.record.admissible)
        except HistoryFailed as error:
            raise EpisodeOver(StopReason.ENV_ERROR, str(error)) from error
        self._require_room(prompt, self.most)
        answer = await self.sampler.answer(prompt)
        if answer.thought is not None:
            self._add_unseen("thought", observation, prompt, answer.thought)
            prompt = Prompt(token_ids=answer.thought_end_ids)
        action = self.renderer.parse(answer.action, before=answer.ids_before_action)
        self.conversation.add(observation, answer.action, action)
        advice = self.record.advice
        act(self.record, prompt, answer.action, action, self.settings, advice=advice)

    async def sum_up(self) -> None:
        """Let the policy sum up what it has seen, if it is time for that.

        The summary is a turn of its own, which the environment does not see.
        """
        request = self.conversation.request()
        if request is None:
            return
        observation = f"{self.record.observation}\n\n{request.text}"
        prompt = self.conversation.prompt(observation, None)
        self._require_room(prompt, request.max_tokens)
        completion = await self.sampler.sample(prompt, request.max_tokens)
        summary = self._add_unseen("summary", observation, prompt, completion)
        self.conversation.add(observation, completion, summary, is_summary=True)

    def _add_unseen(
        self,
        kind: Literal["thought", "summary"],
        observation: str,
        prompt: Prompt,
        completion: Completion,
    ) -> ParsedAction:
        """Record a turn that the environment does not see; return what was said."""
        said = ParsedAction(text=self.renderer.parse(completion).text, command=None)
        turn = Turn(
            observation=observation,
            prompt_token_ids=prompt.token_ids,
            completion=completion,
            action=said,
            admissible=True,
            reward=0.0,
            new_prompt=prompt.is_new,
            kind=kind,
        )
        self.record.turns.append(turn)
        return said

    def _require_room(self, prompt: Prompt, most: int) -> None:
        """End the episode if its context has no room for a prompt and an answer of `most` tokens.

        Otherwise the end of the context would cut actions, and the policy would be trained on a
        limit that it cannot see.
        """
        length = self.sampler.length(prompt)
        if not self.record.turns:
            check_first_prompt(
                self.record.task, length, self.settings, self.context_length, self.most
            )
        if length + most > self.context_length:
            raise EpisodeOver(StopReason.CONTEXT_FULL)


def act(
    record: Recorder,
    prompt: Prompt,
    completion: Completion,
    action: ParsedAction,
    settings: EpisodeSettings,
    *,
    advice: str | None = None,
    mistakes: tuple[tuple[int, int], ...] = (),
) -> dict[str, Any]:
    """Send an action to the environment, record the turn, and return the environment's info.

    An action without a command goes to the environment as its raw text, which costs the penalty.

    Args:
        prompt: what the action answers.
        advice: the expert's, for the turn.
        mistakes: the wrong commands in the prompt, as in `Turn`.

    Raises:
        EpisodeOver: the action ended the episode; its turn has been recorded.
    """
    # Kept now, because the step replaces both.
    observation, admissible = record.observation, is_admissible(action, record.admissible)
    env_reward, ending, info = record.step(action.said)
    penalty = 0.0
    if not admissible:
        penalty = settings.invalid_action_penalty
        if record.has_just_refused(action):
            penalty += settings.repeated_action_penalty
    if record.observation in (observation, *(turn.observation for turn in record.turns)):
        penalty += settings.seen_observation_penalty
    record.turns.append(
        Turn(
            observation=observation,
            prompt_token_ids=prompt.token_ids,
            completion=completion,
            action=action,
            admissible=admissible,
            reward=settings.reward_scale * float(env_reward) - penalty,
            new_prompt=prompt.is_new,
            advice=advice,
            mistakes=mistakes,
        )
    )
    if ending is not None:
        raise EpisodeOver(ending)
    return info


def is_admissible(action: ParsedAction, admissible: Sequence[str] | None) -> bool:
    """Return whether the environment offered the action's command; with no list, it accepts all."""
    return action.command is not None and (admissible is None or action.command in admissible)


def check_first_prompt(
    task: Task, length: int, settings: EpisodeSettings, context_length: int, most: int
) -> None:
    """Check that a first prompt of `length` tokens leaves room for an answer of `most` tokens.

    Raises:
        EpisodeOver: it does not; the message lists the settings to change.
    """
    if length + most > context_length:
        limit = settings.max_thought_tokens
        thought = f", a thought up to {limit} (episode.max_thought_tokens)" if limit else ""
        raise EpisodeOver(
            StopReason.CONTEXT_FULL,
            f"task {task.id!r}: the first prompt has {length} tokens{thought} and an action up to "
            f"{settings.max_action_tokens} (episode.max_action_tokens), but the context holds "
            f"{context_length}; raise serving.context_length or take a model with a longer "
            "context, shorten prompt.system, or set prompt.show_admissible_commands: false",
        )


def describe(error: BaseException) -> str:
    """Return an error's type and message."""
    return f"{type(error).__name__}: {error}"
