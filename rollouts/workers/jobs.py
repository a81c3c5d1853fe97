"""The episodes to play, and the fate of those whose process died."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs import Task
from rollouts.players import PlayerName
from rollouts.seeds import derive_seed
from rollouts.types import StopReason, Trajectory
from rollouts.workers.calls import Call


@dataclass(frozen=True, kw_only=True)
class EpisodeJob:
    """One episode to play."""

    number: int
    """Its own number among all jobs of a pool; a worker's record of calls names it."""
    task: Task
    """The task to play."""
    method: str
    """The method of `RolloutWorker` that plays it, such as `run`."""
    arguments: dict[str, Any]
    """The method's keyword arguments, apart from the number."""
    retried: bool = False
    """Whether a process died with it once already, for an unknown reason."""


def group_jobs(
    tasks: Sequence[Task],
    group_size: int,
    *,
    temperature: float,
    seed: int,
    numbers: Iterator[int],
    advised: bool = False,
    corrections: int | None = None,
) -> list[list[EpisodeJob]]:
    """Return `group_size` episodes of the policy for every task.

    An episode's seed depends on `seed`, the task and the episode's index among those of the task.
    If a task comes again, the index counts on, and its second group plays with other seeds.

    Args:
        numbers: gives each job its number.
        advised: whether the expert says in each turn what it would do.
        corrections: the turns that differ from its advice at which an episode ends; None plays on.
    """
    played: dict[Task, int] = defaultdict(int)
    groups: list[list[EpisodeJob]] = []
    for task in tasks:
        group = []
        for _ in range(group_size):
            # Not from the job's number: then a task's episodes would depend on the other tasks.
            drawn = derive_seed(seed, task.split, task.id, played[task])
            played[task] += 1
            job = EpisodeJob(
                number=next(numbers),
                task=task,
                method="run",
                arguments={
                    "temperature": temperature,
                    "seed": drawn,
                    "advised": advised,
                    "corrections": corrections,
                },
            )
            group.append(job)
        groups.append(group)
    return groups


def scripted_jobs(
    tasks: Sequence[Task],
    player: PlayerName,
    *,
    noise: float,
    seed: int,
    numbers: Iterator[int],
) -> list[list[EpisodeJob]]:
    """Return one episode of `player` for every task, each in a group with no other.

    Args:
        numbers: gives each job its number.
    """
    groups = []
    for index, task in enumerate(tasks):
        drawn = derive_seed(seed, task.split, task.id, index)
        arguments = {"player": player, "noise": noise, "seed": drawn}
        job = EpisodeJob(
            number=next(numbers), task=task, method="run_scripted", arguments=arguments
        )
        groups.append([job])
    return groups


def settle_jobs(
    jobs: Sequence[EpisodeJob], call: Call | None, *, limit_seconds: float, death: str
) -> tuple[list[tuple[EpisodeJob, Trajectory]], list[EpisodeJob]]:
    """Decide which jobs of a dead process have failed and which are played again.

    If the process died in a `call`, the episode of that call has failed: it would kill the next
    process too. If a reset hung, so have all episodes of its task, since they all begin with that
    reset. The other jobs only shared the process and are played again. If no call is to
    blame, any job may be, so all are played again once. A job that loses its process so a second
    time has failed.

    Args:
        jobs: all jobs that the process had not finished.
        call: the call that the process was in when it died, if any.
        limit_seconds: `episode.env_timeout_seconds`; the pool kills a process after a longer call.
        death: the reason of the process's death, in one line.

    Returns:
        The failed jobs, each with its ENV_ERROR trajectory, and the jobs to play again.
    """
    blamed = next((job for job in jobs if call is not None and job.number == call.episode), None)
    failed: list[tuple[EpisodeJob, Trajectory]] = []
    repeated: list[EpisodeJob] = []
    hung_reset = call is not None and call.seconds > limit_seconds and call.is_reset
    for job in jobs:
        # The blamed episode is not tried again: it would take the next process down as well.
        guilty = job is blamed or (hung_reset and blamed is not None and job.task == blamed.task)
        if guilty and call is not None:
            error = _cause(job.task, call, limit_seconds, death)
            failed.append((job, failed_episode(job.task, error)))
        elif blamed is not None:
            # These are innocent, so they keep their one retry for a death without a cause.
            repeated.append(job)
        elif job.retried:
            error = f"the process that held the environment died, a second time: {death}"
            failed.append((job, failed_episode(job.task, error)))
        else:
            repeated.append(replace(job, retried=True))
    return failed, repeated


def _cause(task: Task, call: Call, limit_seconds: float, death: str) -> str:
    if call.seconds > limit_seconds:
        return (
            f"{call} of task {task.id!r} did not return within {limit_seconds:g} s "
            "(episode.env_timeout_seconds), and its process was ended"
        )
    return f"the process that held the environment died in {call} of task {task.id!r}: {death}"


def failed_episode(task: Task, error: str) -> Trajectory:
    """Return an episode without turns, whose environment failed."""
    return Trajectory(
        task=task, turns=(), stop_reason=StopReason.ENV_ERROR, success=False, error=error
    )
