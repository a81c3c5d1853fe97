"""Counts the tasks that cannot be played: one of many is left out, most of them end the run."""

from collections.abc import Sequence

from envs import Task
from rollouts.types import Trajectory

_ENOUGH = 10
"""The tasks that a share is taken of, at least, unless there are fewer."""


def with_task(task: Task, reason: str) -> str:
    """Return the reason of an ending with the task's id, which some reasons name themselves."""
    return reason if repr(task.id) in reason else f"task {task.id!r}: {reason}"


class FailedTasks:
    """The tasks of a run that could not be played, with the reason of each.

    A task fails if all of its episodes are `unplayable`. If it is played again and can be, it has
    not failed.
    """

    def __init__(self, env_id: str, *, most: float, tasks: int) -> None:
        """Start with none.

        Args:
            env_id: names the environment in messages.
            most: `workers.max_failed_share`.
            tasks: how many tasks the run has.
        """
        self._env_id, self._most, self._tasks = env_id, most, tasks
        self._reasons: dict[Task, str] = {}
        """The reason of each failed task; the first to fail comes first."""
        self._played: set[Task] = set()

    def add(self, episodes: Sequence[Trajectory]) -> None:
        """Count episodes; all of a task's episodes are given together."""
        by_task: dict[Task, list[Trajectory]] = {}
        for episode in episodes:
            by_task.setdefault(episode.task, []).append(episode)
        for task, of_task in by_task.items():
            if all(episode.unplayable for episode in of_task):
                self._reasons.setdefault(task, of_task[0].error)
            else:
                self._reasons.pop(task, None)
                self._played.add(task)

    def check(self) -> None:
        """End the run if all tasks failed, or more than the share that may.

        A few tasks of many say little: nothing is judged before 10, or all, have been tried.

        Raises:
            ValueError: it names the first failed task, its reason and the way out.
        """
        failed = len(self._reasons)
        tried = len(self._reasons.keys() | self._played)
        if not failed or tried < min(self._tasks, _ENOUGH):
            return
        if failed == tried or failed > self._most * tried:
            way_out = "mend the environment, its data or the config"
            if failed < tried:
                way_out += f", or raise workers.max_failed_share (now {self._most:g})"
            raise ValueError(
                f"env.id {self._env_id}: {failed} of {tried} tasks could not be played; the first: "
                f"{self._first()}; {way_out}. `agent-rl envs check {self._env_id}` may say more"
            )

    def summary(self) -> str:
        """A sentence about the failed tasks; "" if there are none."""
        if not self._reasons:
            return ""
        tried = len(self._reasons.keys() | self._played)
        return (
            f"{len(self._reasons)} of {tried} tasks could not be played and are left out; the "
            f"first: {self._first()}"
        )

    def _first(self) -> str:
        return with_task(*next(iter(self._reasons.items())))
