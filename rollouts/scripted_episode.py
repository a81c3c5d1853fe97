"""Episodes of a player that needs no model: baselines, and, with mistakes mixed in, the supervised
warm start.
"""

import asyncio
import random

from envs import Task, TextEnv
from rollouts.episode import EpisodeOver, Recorder, act, check_first_prompt
from rollouts.mistakes import Mistakes
from rollouts.players import Player
from rollouts.renderer import Renderer, transcript
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, FinishReason, ParsedAction, StopReason, Trajectory

NO_POLICY = -1
"""The `policy_version` of what no policy sampled."""


async def run_scripted_episode(
    env: TextEnv,
    task: Task,
    player: Player,
    renderer: Renderer,
    settings: EpisodeSettings,
    *,
    noise: float = 0.0,
    seed: int = 0,
    context_length: int | None = None,
) -> Trajectory:
    """Do what `player` says; with probability `noise` a wrong command is executed instead (see
    `Mistakes`).

    A wrong command is part of the *prompt* of the turn after it (action mask 0, its text in that
    turn's `observation`), so that the learner sees how to recover from mistakes; only reading
    epochs train on it; what it earned is left out. The episode is a success only if the player's
    own action won it; won by a wrong command it is `TRUNCATED`, as it is where the player has no
    command, and `ENV_ERROR` where it never acted before that. The log-probs are 0: nothing was
    sampled. `context_length` in tokens; with None the tokens are nobody's to read, and no limit in
    tokens holds.

    Raises:
        ValueError: the environment lacks what the player needs, or the task, the first prompt or an
            action does not fit.
    """
    record = Recorder(env, task, settings.timeout_seconds)
    mistakes = Mistakes(noise, random.Random(seed))
    try:
        info = record.reset()
        delta = renderer.first(record.observation, record.admissible)
        if context_length is not None:
            check_first_prompt(task, len(delta), settings, context_length)
        length = len(delta)
        for _ in range(settings.max_turns):
            command = player.choose(record.observation, info)
            if command is None:
                raise EpisodeOver(StopReason.TRUNCATED)
            mistake = mistakes.next(command, record.admissible)
            ids = renderer.action_ids(command if mistake is None else mistake)
            if context_length is not None:
                _check_action(task, command if mistake is None else mistake, len(ids), settings)
                if length + settings.max_action_tokens > context_length:
                    raise EpisodeOver(StopReason.CONTEXT_FULL)
            if mistake is None:
                info = act(
                    record,
                    delta,
                    spoken(ids),
                    ParsedAction(text=command, command=command),
                    settings,
                )
                delta, shown = (), ""
            else:
                shown = transcript(record.observation, mistake)
                _, ending, info = record.step(mistake)
                if ending is not None:
                    raise EpisodeOver(
                        StopReason.TRUNCATED if ending is StopReason.SUCCESS else ending
                    )
                delta = (*delta, *ids)
            observed = renderer.following(record.observation, record.admissible, FinishReason.STOP)
            length += len(ids) + len(observed)
            delta, record.observation = (*delta, *observed), shown + record.observation
            await asyncio.sleep(0)
    except EpisodeOver as over:
        return _end(record, over.reason, over.error)
    return _end(record, StopReason.MAX_TURNS)


def spoken(ids: tuple[int, ...]) -> Completion:
    """An action, its end token included, that no policy sampled."""
    return Completion(
        token_ids=ids,
        logprobs=(0.0,) * len(ids),
        finish_reason=FinishReason.STOP,
        policy_version=NO_POLICY,
    )


def _end(record: Recorder, reason: StopReason, error: str = "") -> Trajectory:
    if reason.trains and not record.turns:
        return record.end(
            StopReason.ENV_ERROR, f"the episode ended ({reason.value}) before the player acted"
        )
    return record.end(reason, error)


def _check_action(task: Task, command: str, length: int, settings: EpisodeSettings) -> None:
    if length > settings.max_action_tokens:
        raise ValueError(
            f"task {task.id!r}: the action {command!r} takes {length} tokens with its end token, but "
            f"episode.max_action_tokens is {settings.max_action_tokens}; raise it"
        )
