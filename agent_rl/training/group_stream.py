"""Groups for the learner, step after step, played ahead of it (`train.look_ahead`).

Groups are numbered in the order of their tasks, and a rollout step trains the next ones in that
order, whichever end first. So nothing is dropped for its age, short episodes are not preferred, and
the order of tasks is that of a run that does not look ahead. With `look_ahead: N`, groups of the
next N steps are played while the learner works: their weights are at most N versions old when they
train, because no group begins earlier than that.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from agent_rl.config import TrainSettings
from agent_rl.training.groups import PlayedGroups, chosen_groups, step_length
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import Trajectory, TrajectoryGroup
from rollouts.workers.failed_tasks import FailedTasks
from rollouts.workers.stream import OnEpisode

BeginGroup = Callable[[Task, int, OnEpisode], Future[list[Trajectory]]]
"""Lets a group be played, given its task, its number and what is called with each episode."""


class GroupStream:
    """Begins groups as soon as they may begin, and hands them out by rollout steps."""

    def __init__(
        self,
        begin: BeginGroup,
        sampler: TaskSampler,
        settings: TrainSettings,
        failed: FailedTasks,
        *,
        first: int = 0,
    ) -> None:
        """Start without groups; the first `take` begins them.

        Args:
            failed: counts the tasks that could not be played.
            first: the number of the next step's first group.
        """
        self._begin, self._sampler = begin, sampler
        self._settings, self._failed = settings, failed
        self.first = first
        """The number of the next step's first group."""
        self._groups: list[TrajectoryGroup | None] = []
        """The groups that have begun, from `first` on; None is still played."""
        self._playing: dict[int, Future[list[Trajectory]]] = {}
        """What will hold the episodes of the groups that are still played, by number."""
        self._episodes: list[list[Trajectory]] = []
        """The episodes that have ended, by group from `first` on."""
        self._on_episode: OnEpisode = _ignore
        self._steps_ahead = 0
        """How many steps beyond the next one may begin."""
        self._error: BaseException | None = None
        """What ended the playing."""
        # Groups end in another thread, which then begins those in place of dropped ones.
        self._changed = threading.Condition()

    def take(self, *, steps_left: int, on_episode: OnEpisode | None = None) -> PlayedGroups:
        """Wait until the groups of the next step have ended, and return them.

        Args:
            steps_left: the steps that the run still has, with this one: no more are begun.
            on_episode: is called with each episode of the step, those that ended before included.
                It may be called in another thread.

        Raises:
            ValueError: more tasks failed than may (see `FailedTasks.check`).
            Exception: what ended the playing.
        """
        with self._changed:
            self._steps_ahead = min(self._settings.look_ahead, steps_left - 1)
            self._begin_groups()
            self._on_episode = on_episode or _ignore
            for episodes in self._episodes[: self._length() or None]:
                for episode in episodes:
                    self._on_episode(episode)
            try:
                while (length := self._whole()) is None:
                    self._changed.wait()
            finally:
                self._on_episode = _ignore
            played = [group for group in self._groups[:length] if group is not None]
            del self._groups[:length], self._episodes[:length]
            self.first += length
            # The last of the steps ahead may not begin before the learner has trained this one:
            # its weights would be a version too old.
            self._steps_ahead -= 1
        return chosen_groups(played, self._settings)

    def close(self) -> None:
        """Play no more; what is played ends without being wanted."""
        with self._changed:
            self._steps_ahead = -1
            playing = list(self._playing.values())
        # Without the lock: whoever waits for a cancelled group is called here.
        for result in playing:
            result.cancel()

    def _length(self) -> int | None:
        """The number of the next step's groups, as far as is known (see `step_length`)."""
        return step_length(self._groups, self._settings)

    def _whole(self) -> int | None:
        """The number of the next step's groups if all of them have ended, else None."""
        if self._error is not None:
            raise self._error
        self._failed.check()
        length = self._length()
        return None if length is None or None in self._groups[:length] else length

    def _begin_groups(self) -> None:
        """Begin groups until the next step and those ahead of it have all that they need."""
        while not self._enough():
            number = self.first + len(self._groups)
            self._groups.append(None)
            self._episodes.append([])
            result = self._begin(self._sampler.task(number), number, partial(self._note, number))
            self._playing[number] = result
            result.add_done_callback(partial(self._end, number))

    def _enough(self) -> bool:
        begun = self._groups
        for _ in range(self._steps_ahead + 1):
            length = step_length(begun, self._settings)
            if length is None:
                return False
            begun = begun[length:]
        return True

    def _note(self, number: int, episode: Trajectory) -> None:
        """Note an episode of a group."""
        with self._changed:
            index, length = number - self.first, self._length()
            self._episodes[index].append(episode)
            if length is None or index < length:
                self._on_episode(episode)

    def _end(self, number: int, result: Future[list[Trajectory]]) -> None:
        """Note that a group has ended, and begin others if it is dropped."""
        with self._changed:
            self._playing.pop(number, None)
            try:
                episodes = result.result()
                group = TrajectoryGroup(
                    task=self._sampler.task(number), trajectories=tuple(episodes)
                )
                self._groups[number - self.first] = group
                self._failed.add(episodes)
                self._begin_groups()
            except BaseException as error:
                self._error = self._error or error
            self._changed.notify_all()


def _ignore(episode: Trajectory) -> None:
    """Nobody watches."""
