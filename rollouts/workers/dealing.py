"""Decides which worker plays which episode next."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

JobT = TypeVar("JobT")


class Schedule(Generic[JobT]):
    """Deals jobs to the free places of workers, so that none waits while a place is free.

    A job goes to a worker only when one of its places is free. So no job ever waits behind another
    one at its worker, and a place stays free only if no job is left. The worker with the fewest
    jobs comes first, so that all processes have work.

    The jobs of a group play the same task, and a worker that has the task loaded starts it faster.
    So a worker goes on with its group, and then begins a new one. When no whole group is left, it
    takes jobs from the worker with the most left.
    """

    def __init__(self, *, workers: int, places: int) -> None:
        """Start without jobs.

        Args:
            places: the jobs that a worker plays at once.
        """
        self._groups = deque[deque[JobT]]()
        self._urgent = deque[deque[JobT]]()
        self._queues: list[deque[JobT]] = [deque() for _ in range(workers)]
        self._free = [places] * workers
        self._closed = [False] * workers

    def add(self, group: Sequence[JobT], *, urgent: bool = False) -> None:
        """Take a group to be played after those that were added before.

        Args:
            urgent: whether it comes before groups that are not. Groups that have begun go on.
        """
        if group:
            (self._urgent if urgent else self._groups).append(deque(group))

    def deal(self) -> list[tuple[int, JobT]]:
        """Fill the free places as long as there are jobs; return each worker's number and job."""
        dealt: list[tuple[int, JobT]] = []
        while True:
            free = [0 if closed else n for n, closed in zip(self._free, self._closed, strict=True)]
            worker = free.index(max(free))
            job = self._next(worker) if free[worker] else None
            if job is None:
                return dealt
            self._free[worker] -= 1
            dealt.append((worker, job))

    def end(self, worker: int) -> None:
        """Free a place of `worker`, because a job has ended."""
        self._free[worker] += 1

    def put_back(self, worker: int, jobs: Sequence[JobT]) -> None:
        """Make `jobs`, which `worker` took and could not finish, its next ones.

        Each needs an `end` as well.
        """
        # `extendleft` puts one after the other in front, so the first of them has to come last.
        self._queues[worker].extendleft(reversed(jobs))

    def close(self, worker: int) -> None:
        """Give `worker` no jobs until `open`, because its process is being replaced."""
        self._closed[worker] = True

    def open(self, worker: int) -> None:
        """Give `worker` jobs again."""
        self._closed[worker] = False

    @property
    def waiting(self) -> bool:
        """Whether a job waits for a place."""
        return any((self._groups, self._urgent, *self._queues))

    def _next(self, worker: int) -> JobT | None:
        queue = self._queues[worker]
        if not queue and (groups := self._urgent or self._groups):
            queue = self._queues[worker] = groups.popleft()
        if not queue:
            queue = max(self._queues, key=len)
        return queue.popleft() if queue else None
