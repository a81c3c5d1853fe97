"""Episodes to play, and what becomes of those whose process died on the way."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from envs import Task
from rollouts.seeds import derive_seed
from rollouts.types import StopReason, Trajectory
from rollouts.workers.calls import Call


@dataclass(frozen=True, kw_only=True)
class Job:
    """One episode to play: its number, and the worker's method (with arguments) that plays it.

    `again`: its process died once, and nobody knows of what.
    """

    number: int
    task: Task
    method: str
    arguments: dict[str, Any]
    again: bool = False


def group_jobs(
    tasks: Sequence[Task], group_size: int, *, temperature: float, seed: int
) -> list[list[Job]]:
    """`group_size` episodes of the policy for every task.

    Their seeds depend on `seed`, the task and the number of the episode, which counts on where a
    task comes again.
    """
    numbers, members = count(), defaultdict[Task, "count[int]"](count)

    def job(task: Task) -> Job:
        drawn = derive_seed(seed, task.split, task.id, next(members[task]))
        return Job(
            number=next(numbers),
            task=task,
            method="run",
            arguments={"temperature": temperature, "seed": drawn},
        )

    return [[job(task) for _ in range(group_size)] for task in tasks]


def settle(
    lost: Sequence[Job], call: Call | None, *, limit_seconds: float, news: str
) -> tuple[list[tuple[Job, Trajectory]], list[Job]]:
    """Sort the jobs of a process that died: those that are over, as `ENV_ERROR`, and those to play
    again.

    The episode that was in a `call` is over: it is what the process died of, and would do so again.
    The others share its fate by chance and are played again. Where no call is to blame, all are
    played again, once: a second time each of them may be what their process died of.
    """
    culprit = None if call is None else call.episode
    named = any(job.number == culprit for job in lost)
    over, again = [], []
    for job in lost:
        if call is not None and job.number == culprit:
            over.append((job, _failed(job.task, _cause(job.task, call, limit_seconds, news))))
        elif named:
            again.append(job)
        elif job.again:
            over.append(
                (
                    job,
                    _failed(
                        job.task,
                        f"the process that held the environment died, a second time: {news}",
                    ),
                )
            )
        else:
            again.append(replace(job, again=True))
    return over, again


def _cause(task: Task, call: Call, limit_seconds: float, news: str) -> str:
    if call.seconds > limit_seconds:
        return (
            f"{call} of task {task.id!r} did not return within {limit_seconds:g} s (episode.env_timeout_seconds), "
            "and its process was ended"
        )
    return f"the process that held the environment died in {call} of task {task.id!r}: {news}"


def _failed(task: Task, error: str) -> Trajectory:
    return Trajectory(
        task=task, turns=(), stop_reason=StopReason.ENV_ERROR, success=False, error=error
    )
