"""Decides which worker plays which episode next."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

JobT = TypeVar("JobT")


class Schedule(Generic[JobT]):
    """Deals groups of jobs to workers, and single jobs once the groups have run out.

    The jobs of a group play the same task, and a worker that has the task loaded starts it faster.
    So a group stays with one worker. When no whole group is left, an idle worker takes jobs from
    the worker with the most left. So all workers finish at about the same time.
    """

    def __init__(self, groups: Sequence[Sequence[JobT]], workers: int) -> None:
        """Take the groups in the order in which they are to be played."""
        self._groups = deque(deque(group) for group in groups if group)
        self._queues: list[deque[JobT]] = [deque() for _ in range(workers)]

    def next(self, worker: int) -> JobT | None:
        """Return the next job of `worker`; None if no job is left for any worker."""
        queue = self._queues[worker]
        if not queue and self._groups:
            queue = self._queues[worker] = self._groups.popleft()
        if not queue:
            queue = max(self._queues, key=len)
        return queue.popleft() if queue else None

    def put_back(self, worker: int, jobs: Sequence[JobT]) -> None:
        """Make `jobs`, which `worker` took and could not finish, its next ones."""
        # `extendleft` puts one after the other in front, so the first of them has to come last.
        self._queues[worker].extendleft(reversed(jobs))
