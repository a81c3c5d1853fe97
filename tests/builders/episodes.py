"""Turns, episodes and groups with defaults, for tests that do not play them."""

from typing import Any, Literal

from envs import Task
from rollouts.types import (
    Completion,
    FinishReason,
    ParsedAction,
    StopReason,
    Trajectory,
    TrajectoryGroup,
    Turn,
)

TASK = Task(env_id="e", split="s", family="f", id="t")
"""The task of an episode that names none."""


def turn(
    prompt: tuple[int, ...] = (1,),
    ids: tuple[int, ...] = (3, 2),
    *,
    logprobs: tuple[float, ...] | None = None,
    finish_reason: FinishReason = FinishReason.STOP,
    policy_version: int = 0,
    versions: tuple[tuple[int, int], ...] = (),
    observation: str = "o",
    text: str = "look",
    command: str | None = "look",
    admissible: bool = True,
    reward: float = 0.0,
    new_prompt: bool = False,
    kind: Literal["action", "thought", "summary"] = "action",
    advice: str | None = None,
    mistakes: tuple[tuple[int, int], ...] = (),
) -> Turn:
    """Return a turn; by default one prompt token and the action `look` in two tokens.

    Args:
        prompt: the token ids appended before the completion.
        ids: the token ids of the completion.
        logprobs: one per id of the completion; by default each is -0.5.
        versions: the runs of versions; by default one run of `policy_version`.
    """
    return Turn(
        observation=observation,
        prompt_token_ids=prompt,
        completion=Completion(
            token_ids=ids,
            logprobs=(-0.5,) * len(ids) if logprobs is None else logprobs,
            finish_reason=finish_reason,
            versions=versions or ((policy_version, 0),),
        ),
        action=ParsedAction(text=text, command=command),
        admissible=admissible,
        reward=reward,
        new_prompt=new_prompt,
        kind=kind,
        advice=advice,
        mistakes=mistakes,
    )


def trajectory(
    *turns: Turn,
    task: Task = TASK,
    stop_reason: StopReason = StopReason.SUCCESS,
    **others: Any,
) -> Trajectory:
    """Return an episode of exactly these turns; `success` follows from `stop_reason`.

    Args:
        others: further fields of `Trajectory`, such as `error` or `env_seconds`.
    """
    return Trajectory(
        task=task,
        turns=turns,
        stop_reason=stop_reason,
        success=stop_reason is StopReason.SUCCESS,
        **others,
    )


def group(*episodes: Trajectory) -> TrajectoryGroup:
    """Return the group of these episodes, which share the task of the first."""
    return TrajectoryGroup(task=episodes[0].task, trajectories=episodes)
