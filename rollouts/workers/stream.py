"""Plays groups of episodes one after the other without a pause: what ends makes place for more."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rollouts.processes.ray_failures import death_of
from rollouts.processes.ray_processes import cancel, when_answered
from rollouts.types import Trajectory
from rollouts.workers.dealing import Schedule
from rollouts.workers.engines import Engines
from rollouts.workers.events import Event
from rollouts.workers.jobs import EpisodeJob, settle_jobs
from rollouts.workers.usage import PlaceSeconds
from rollouts.workers.worker_processes import WorkerProcesses

OnEpisode = Callable[[Trajectory], None]
"""Called with each trajectory as soon as its episode ends, in the pool's thread."""


@dataclass(kw_only=True, eq=False)
class _Group:
    """Jobs whose episodes are wanted together."""

    jobs: Sequence[EpisodeJob]
    """The jobs, in the order of the results."""
    result: Future[list[Trajectory]]
    """Gets the trajectories in the order of the jobs; whoever does not want them cancels it."""
    on_episode: OnEpisode | None
    """Is called with each trajectory."""
    engine: int | None = None
    """The engine that plays it, as its cache holds what the members share. None before the first
    episode, and for players that need no engine."""
    played: dict[int, Trajectory] = field(default_factory=dict)
    """The trajectories by the jobs' numbers."""


@dataclass(frozen=True, kw_only=True)
class _Flight:
    """A job that a worker plays now."""

    worker: int
    job: EpisodeJob
    engine: int | None
    """The number of the engine that plays it, if one does."""
    request: Any
    """Ray's reference to the answer."""


class EpisodeStream:
    """Deals jobs to workers, and takes their trajectories. Its methods run in the pool's thread.

    `begin` may be called in any thread.
    """

    def __init__(
        self,
        workers: WorkerProcesses,
        engines: Engines | None,
        *,
        places: int,
        limit_seconds: float,
        post: Callable[[Event], None],
    ) -> None:
        """Start without jobs, and with no worker that is ready.

        Args:
            places: episodes that a worker plays at once.
            limit_seconds: `episode.env_timeout_seconds`.
            post: lets the pool's thread call a function.
        """
        self._workers, self._engines, self._post = workers, engines, post
        self._limit_seconds = limit_seconds
        count = len(workers.actors)
        self._places = places * count
        self._schedule = Schedule[EpisodeJob](workers=count, places=places)
        for worker in range(count):
            self._schedule.close(worker)
        self._groups: dict[int, _Group] = {}
        """The group of each job that has not ended, by the job's number."""
        self._flights: dict[int, _Flight] = {}
        """What is played now, by the job's number."""
        self._failure: BaseException | None = None
        """What ended the stream."""
        self._noted_at = time.monotonic()
        self._seconds = PlaceSeconds()

    def begin(
        self, jobs: Sequence[EpisodeJob], on_episode: OnEpisode | None, *, urgent: bool
    ) -> Future[list[Trajectory]]:
        """Let jobs be played; return what will hold their trajectories, in their order.

        Args:
            on_episode: is called with each trajectory in the pool's thread.
            urgent: whether they come before groups that are not, and have not begun.
        """
        group = _Group(jobs=jobs, result=Future(), on_episode=on_episode)
        self._post(partial(self._add, group, urgent))
        group.result.add_done_callback(
            lambda result: self._post(partial(self._drop, group)) if result.cancelled() else None
        )
        return group.result

    def open(self, worker: int) -> None:
        """Let a worker play."""
        self._schedule.open(worker)
        self._send()

    def fail(self, error: BaseException) -> None:
        """End everything: whoever waits gets the error, and so does whoever begins later."""
        self._failure = self._failure or error
        for group in self._groups.values():
            _answer(group.result, error)
        self._groups.clear()
        for flight in self._flights.values():
            cancel(flight.request)
        self._flights.clear()

    def place_seconds(self) -> PlaceSeconds:
        """How the places were used until now."""
        now, playing = time.monotonic(), len(self._flights)
        passed, self._noted_at = now - self._noted_at, now
        old = self._seconds
        in_tail = 0 < playing < self._places and not self._schedule.waiting
        self._seconds = PlaceSeconds(
            total=old.total + passed * self._places,
            played=old.played + passed * playing,
            slowest=old.slowest + passed * in_tail,
        )
        return self._seconds

    def _add(self, group: _Group, urgent: bool) -> None:
        if self._failure is not None:
            _answer(group.result, self._failure)
            return
        if not group.jobs:
            _answer(group.result, [])
        self.place_seconds()
        for job in group.jobs:
            self._groups[job.number] = group
        self._schedule.add(group.jobs, urgent=urgent)
        self._send()

    def _drop(self, group: _Group) -> None:
        """Play no more of a group that nobody wants."""
        for job in group.jobs:
            if self._groups.pop(job.number, None) is not None and job.number in self._flights:
                cancel(self._flights[job.number].request)

    def _send(self) -> None:
        """Send jobs to all free places."""
        self.place_seconds()
        while dealt := self._schedule.deal():
            for worker, job in dealt:
                group = self._groups.get(job.number)
                if group is None:
                    self._schedule.end(worker)
                else:
                    self._fly(worker, job, group)

    def _fly(self, worker: int, job: EpisodeJob, group: _Group) -> None:
        """Let a worker play a job."""
        arguments = job.arguments
        if self._engines is not None and job.method == "run":
            if group.engine is None:
                group.engine = self._engines.least_busy()
            self._engines.begin(group.engine)
            arguments = {**arguments, "engine": group.engine}
        play = getattr(self._workers.actors[worker], job.method)
        request = play.remote(job.task, **arguments, number=job.number)
        self._flights[job.number] = _Flight(
            worker=worker, job=job, engine=group.engine, request=request
        )
        when_answered(request, partial(self._post_answer, job.number, request))

    def _post_answer(self, number: int, request: Any, answer: Callable[[], Any]) -> None:
        self._post(partial(self._receive, number, request, answer))

    def _receive(self, number: int, request: Any, answer: Callable[[], Any]) -> None:
        """Take an answer, which may be the news that its worker died."""
        flight = self._flights.get(number)
        if flight is None or flight.request is not request:
            return  # its worker died, as another answer told
        self.place_seconds()
        try:
            episode = answer()
        except Exception as error:
            if (death := death_of(error)) is None:
                self._land(flight, played=False)
                self._give_up(flight.job, error)
            else:
                self._bury(flight.worker, death)
        else:
            self._land(flight, played=True)
            self._workers.episode_ended()
            self._end(flight.job, episode)
        self._send()

    def _land(self, flight: _Flight, *, played: bool) -> None:
        """Remove a job from what is played; its place is free."""
        del self._flights[flight.job.number]
        self._schedule.end(flight.worker)
        if self._engines is not None and flight.engine is not None:
            self._engines.end(flight.engine, played=played)

    def _bury(self, worker: int, death: str) -> None:
        """Settle the jobs of a worker that died (see `settle_jobs`), and replace it."""
        # One answer tells of the death; the worker's other jobs died with it.
        lost = [flight for flight in self._flights.values() if flight.worker == worker]
        for flight in lost:
            self._land(flight, played=False)
        call = self._workers.bury(worker)
        jobs = [flight.job for flight in lost]
        failed, repeated = settle_jobs(jobs, call, limit_seconds=self._limit_seconds, death=death)
        for job, failure in failed:
            self._end(job, failure)
        self._schedule.put_back(worker, repeated)
        self._schedule.close(worker)
        self._workers.replace(worker, failed[0][1].error if failed else death)

    def _end(self, job: EpisodeJob, episode: Trajectory) -> None:
        """Record a job's trajectory."""
        group = self._groups.pop(job.number, None)
        if group is None:
            return  # nobody wants it any more
        group.played[job.number] = episode
        if group.on_episode is not None:
            group.on_episode(episode)
        if len(group.played) == len(group.jobs):
            _answer(group.result, [group.played[job.number] for job in group.jobs])

    def _give_up(self, job: EpisodeJob, error: Exception) -> None:
        """Answer a group with the error that one of its jobs raised."""
        group = self._groups.get(job.number)
        if group is not None:
            self._drop(group)
            _answer(group.result, error)


def _answer(result: Future[list[Trajectory]], answer: list[Trajectory] | BaseException) -> None:
    """Answer a future that may have been cancelled, or answered."""
    with suppress(InvalidStateError):
        if isinstance(answer, BaseException):
            result.set_exception(answer)
        else:
            result.set_result(answer)
