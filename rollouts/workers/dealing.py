"""Which worker plays which episode next."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Schedule(Generic[Job]):
    """Deals out groups of jobs: a group stays with one worker while there are whole groups left to
    deal.

    The members of a group play the same task, which a worker that has it loaded starts faster. When
    the groups have run out, an idle worker takes single jobs from the worker that has most left.
    """

    def __init__(self, groups: Sequence[Sequence[Job]], workers: int) -> None:
        self._groups = deque(deque(group) for group in groups if group)
        self._mine: list[deque[Job]] = [deque() for _ in range(workers)]

    def next(self, worker: int) -> Job | None:
        """The next job of `worker`, or None where none is left for anybody."""
        mine = self._mine[worker]
        if not mine and self._groups:
            mine = self._mine[worker] = self._groups.popleft()
        if not mine:
            mine = max(self._mine, key=len)
        return mine.popleft() if mine else None

    def put_back(self, worker: int, jobs: Sequence[Job]) -> None:
        """Jobs that `worker` took and could not do are its next ones."""
        self._mine[worker].extendleft(reversed(jobs))
