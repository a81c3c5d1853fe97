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

    def __init__(self, groups: Sequence[Sequence[JobT]], *, workers: int, places: int) -> None:
        """Take the groups in the order in which they are to be played.

        Args:
            places: the jobs that a worker plays at once.
        """
        self._groups = deque(deque(group) for group in groups if group)
        self._queues: list[deque[JobT]] = [deque() for _ in range(workers)]
        self._free = [places] * workers

    def deal(self) -> list[tuple[int, JobT]]:
        """Fill the free places as long as there are jobs; return each worker's number and job."""
        dealt = []
        while max(self._free) > 0:
            worker = self._free.index(max(self._free))
            job = self._next(worker)
            if job is None:
                break
            self._free[worker] -= 1
            dealt.append((worker, job))
        return dealt

    def end(self, worker: int) -> None:
        """Free a place of `worker`, because a job has ended."""
        self._free[worker] += 1

    def put_back(self, worker: int, jobs: Sequence[JobT]) -> None:
        """Make `jobs`, which `worker` took and could not finish, its next ones.

        Each needs an `end` as well.
        """
        # `extendleft` puts one after the other in front, so the first of them has to come last.
        self._queues[worker].extendleft(reversed(jobs))

    def _next(self, worker: int) -> JobT | None:
        queue = self._queues[worker]
        if not queue and self._groups:
            queue = self._queues[worker] = self._groups.popleft()
        if not queue:
            queue = max(self._queues, key=len)
        return queue.popleft() if queue else None
