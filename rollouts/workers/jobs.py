"""The episodes to play, and the fate of those whose process died."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs import Task
from rollouts.players import PlayerName
from rollouts.seeds import derive_seed
from rollouts.types import StopReason, Trajectory
from rollouts.workers.calls import Call
from rollouts.workers.dealing import Schedule


@dataclass(frozen=True, kw_only=True)
class EpisodeJob:
    """One episode to play."""

    number: int
    """Its number among the jobs that are played together; it orders the results."""
    task: Task
    """The task to play."""
    method: str
    """The method of `RolloutWorker` that plays it, such as `run`."""
    arguments: dict[str, Any]
    """The method's keyword arguments, apart from the number."""
    retried: bool = False
    """Whether a process died with it once already, for an unknown reason."""


class Round:
    """The jobs of one call of `collect`: still to deal, in flight, and played."""

    def __init__(
        self, schedule: Schedule[EpisodeJob], on_episode: Callable[[Trajectory], None] | None
    ) -> None:
        self.schedule = schedule
        self.in_flight: dict[Any, tuple[int, EpisodeJob]] = {}
        """By Ray's reference to the answer: the worker that plays, and the job."""
        self._played: dict[int, Trajectory] = {}
        self._on_episode = on_episode

    def take(self, request: Any) -> tuple[int, EpisodeJob]:
        """Remove a job from those in flight; return its worker, whose place is free, and it."""
        worker, job = self.in_flight.pop(request)
        self.schedule.end(worker)
        return worker, job

    def take_all(self, worker: int) -> list[EpisodeJob]:
        """Remove the jobs of `worker` from those in flight, and return them."""
        theirs = [request for request, (player, _) in self.in_flight.items() if player == worker]
        return [self.take(request)[1] for request in theirs]

    def end(self, job: EpisodeJob, episode: Trajectory) -> None:
        """Record a job's trajectory."""
        self._played[job.number] = episode
        if self._on_episode is not None:
            self._on_episode(episode)

    def episodes(self) -> list[Trajectory]:
        """Return the trajectories, ordered by their jobs' numbers."""
        return [self._played[number] for number in sorted(self._played)]


def group_jobs(
    tasks: Sequence[Task], group_size: int, *, temperature: float, seed: int
) -> list[list[EpisodeJob]]:
    """Return `group_size` episodes of the policy for every task.

    An episode's seed depends on `seed`, the task and the episode's index among those of the task.
    If a task comes again, the index counts on, and its second group plays with other seeds.
    """
    played: dict[Task, int] = defaultdict(int)
    groups: list[list[EpisodeJob]] = []
    for task in tasks:
        group = []
        for member in range(group_size):
            # Not from the job's number: then a task's episodes would depend on the other tasks.
            drawn = derive_seed(seed, task.split, task.id, played[task])
            played[task] += 1
            job = EpisodeJob(
                number=len(groups) * group_size + member,
                task=task,
                method="run",
                arguments={"temperature": temperature, "seed": drawn},
            )
            group.append(job)
        groups.append(group)
    return groups


def scripted_jobs(
    tasks: Sequence[Task], player: PlayerName, *, noise: float, seed: int
) -> list[list[EpisodeJob]]:
    """Return one episode of `player` for every task, each in a group with no other."""
    groups = []
    for number, task in enumerate(tasks):
        drawn = derive_seed(seed, task.split, task.id, number)
        arguments = {"player": player, "noise": noise, "seed": drawn}
        job = EpisodeJob(number=number, task=task, method="run_scripted", arguments=arguments)
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
