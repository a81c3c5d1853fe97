"""Episodes of an environment's own expert, with mistakes mixed in, for the supervised warm start."""

import asyncio
import random
import re
from collections.abc import Sequence

from envs import Task, TextEnv
from rollouts.episode import EpisodeOver, Recorder, act, check_first_prompt
from rollouts.renderer import Renderer
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, FinishReason, ParsedAction, StopReason, Trajectory

EXPERT_VERSION = -1
"""The `policy_version` of what no policy sampled."""


async def run_expert_episode(
    env: TextEnv,
    task: Task,
    renderer: Renderer,
    settings: EpisodeSettings,
    *,
    noise: float,
    seed: int,
    context_length: int,
) -> Trajectory:
    """Follow `info["expert_command"]`; with probability `noise` a wrong command is executed instead.

    A wrong command is part of the *prompt* of the turn after it (action mask 0, its text in that turn's
    `observation`), so that the learner sees how to recover from mistakes and is never trained to make them; what it
    earned is left out. The episode is a success only if an expert's action won it; won by a wrong command it is
    `TRUNCATED`, as it is where the expert has no command, and `ENV_ERROR` where no expert's action came before that.
    The log-probs are 0: nothing was sampled.

    Raises:
        ValueError: the environment has no expert, or the task, the first prompt or an action does not fit.
    """
    record, rng = Recorder(env, task, settings.timeout_seconds), random.Random(seed)
    try:
        info = record.reset()
        if "expert_command" not in info:
            raise ValueError(
                f"task {task.id!r}: environment {task.env_id!r} gives no expert_command, which a warm start needs; "
                "ask it for its expert (env.options, expert: true), or train without a warm start"
            )
        delta = renderer.first(record.observation, record.admissible)
        check_first_prompt(task, len(delta), settings, context_length)
        length = len(delta)
        for _ in range(settings.max_turns):
            command = info.get("expert_command")
            if not command:
                raise EpisodeOver(StopReason.TRUNCATED)
            mistake = wrong_command(command, record.admissible, rng) if rng.random() < noise else None
            ids = renderer.action_ids(command if mistake is None else mistake)
            _check_action(task, command if mistake is None else mistake, len(ids), settings)
            if length + settings.max_action_tokens > context_length:
                raise EpisodeOver(StopReason.CONTEXT_FULL)
            if mistake is None:
                info = act(record, delta, _completion(ids), ParsedAction(text=command, command=command), settings)
                delta, shown = (), ""
            else:
                shown = f"{record.observation}\n> {mistake}\n"
                _, ending, info = record.step(mistake)
                if ending is not None:
                    raise EpisodeOver(StopReason.TRUNCATED if ending is StopReason.SUCCESS else ending)
                delta = (*delta, *ids)
            observed = renderer.following(record.observation, record.admissible, FinishReason.STOP)
            length += len(ids) + len(observed)
            delta, record.observation = (*delta, *observed), shown + record.observation
            await asyncio.sleep(0)
    except EpisodeOver as over:
        return _end(record, over.reason, over.error)
    return _end(record, StopReason.MAX_TURNS)


def _end(record: Recorder, reason: StopReason, error: str = "") -> Trajectory:
    if reason.trains and not record.turns:
        return record.end(StopReason.ENV_ERROR, f"the episode ended ({reason.value}) before the expert acted")
    return record.end(reason, error)


def wrong_command(command: str, admissible: Sequence[str] | None, rng: random.Random) -> str:
    """A command that is not `command`: half of the time one the environment refuses, else another it offers.

    One that is refused has another instance number in it ("take book 2" for "take book 1"); small models make that
    mistake most.
    """
    others = [other for other in admissible or () if other != command]
    if others and rng.random() < 0.5:
        return rng.choice(others)
    numbers = list(re.finditer(r"\d+", command))
    if not numbers:
        return command + " 1"
    place = rng.choice(numbers)
    known = {command, *others}
    candidates = (f"{command[: place.start()]}{number}{command[place.end() :]}" for number in range(1, len(known) + 10))
    return rng.choice([candidate for candidate in candidates if candidate not in known][:4])


def _completion(ids: tuple[int, ...]) -> Completion:
    return Completion(
        token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason=FinishReason.STOP, policy_version=EXPERT_VERSION
    )


def _check_action(task: Task, command: str, length: int, settings: EpisodeSettings) -> None:
    if length > settings.max_action_tokens:
        raise ValueError(
            f"task {task.id!r}: the action {command!r} takes {length} tokens with its end token, but "
            f"episode.max_action_tokens is {settings.max_action_tokens}; raise it"
        )
