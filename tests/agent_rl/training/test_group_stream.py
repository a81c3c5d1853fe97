import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from agent_rl.config import TrainSettings
from agent_rl.training.group_stream import GroupStream
from agent_rl.training.groups import PlayedGroups
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import StopReason, Trajectory
from rollouts.workers.failed_tasks import FailedTasks
from tests.builders.episodes import trajectory, turn

TASKS = [Task(env_id="e", split="train", family="f", id=f"{number:02d}") for number in range(40)]
ORDER = [TaskSampler(TASKS, seed=0).task(number).id for number in range(80)]
WON, LOST, BROKEN = StopReason.SUCCESS, StopReason.MAX_TURNS, StopReason.ENV_ERROR


class World:
    """Plays groups whose ends a test decides, and when: `end(number, ...)`."""

    def __init__(self, **changes: Any) -> None:
        self.begun: list[int] = []
        self.results: dict[int, Future[list[Trajectory]]] = {}
        self.tasks: dict[int, Task] = {}
        self.notes: dict[int, Callable[[Trajectory], None]] = {}
        settings = TrainSettings.model_validate(
            {"tasks_per_step": 2, "num_generations": 2, **changes}
        )
        failed = FailedTasks("e", most=0.5, tasks=len(TASKS))
        self.stream = GroupStream(self._begin, TaskSampler(TASKS, seed=0), settings, failed)

    def _begin(
        self, task: Task, number: int, note: Callable[[Trajectory], None]
    ) -> Future[list[Trajectory]]:
        self.begun.append(number)
        self.tasks[number], self.notes[number] = task, note
        self.results[number] = Future()
        return self.results[number]

    def end(self, number: int, *reasons: StopReason) -> None:
        """End a group with an episode for each reason."""
        episodes = [
            trajectory(turn(), task=self.tasks[number], stop_reason=reason)
            for reason in reasons or (WON, LOST)
        ]
        for episode in episodes:
            self.notes[number](episode)
        self.results[number].set_result(episodes)

    def taken(self, do: Callable[[], None], **options: Any) -> PlayedGroups:
        """The groups of the next step, while another thread calls `do`."""
        began = threading.Event()

        def soon() -> None:
            began.wait()
            do()

        thread = threading.Thread(target=soon)
        thread.start()
        began.set()
        try:
            return self.stream.take(**{"steps_left": 9, **options})
        finally:
            thread.join()

    def wait_for(self, number: int) -> None:
        """Wait until a group has begun."""
        while number not in self.results:
            time.sleep(0.001)

    def end_when_begun(self, *numbers: int) -> None:
        for number in numbers:
            self.wait_for(number)
            self.end(number)


def ids(groups: PlayedGroups) -> list[str]:
    return [group.task.id for group in groups.played]


def test_a_synchronous_step_begins_its_own_groups_only() -> None:
    world = World()
    assert ids(world.taken(lambda: world.end_when_begun(1, 0))) == ORDER[:2]
    assert world.begun == [0, 1]
    assert world.stream.first == 2
    assert ids(world.taken(lambda: world.end_when_begun(2, 3))) == ORDER[2:4]


def test_groups_train_in_the_order_of_their_tasks_whichever_end_first() -> None:
    world = World(look_ahead=1)
    groups = world.taken(lambda: world.end_when_begun(3, 2, 1, 0))
    assert ids(groups) == ORDER[:2]
    assert world.begun == [0, 1, 2, 3], "the next step's play, and no more"
    # They have ended already, and the step after them begins when they are taken.
    assert ids(world.taken(lambda: None)) == ORDER[2:4]
    assert world.begun == list(range(6))


def test_nothing_begins_while_the_learner_trains_a_step() -> None:
    world = World(look_ahead=1)
    world.taken(lambda: world.end_when_begun(0, 1))
    world.end(2)
    world.end(3)
    # Those of step 3 would be sampled before the updates of steps 1 and 2, and train after both.
    assert world.begun == [0, 1, 2, 3]
    world.taken(lambda: None)
    assert world.begun == list(range(6))


def test_no_more_steps_begin_than_the_run_has() -> None:
    world = World(look_ahead=5)
    world.taken(lambda: world.end_when_begun(0, 1), steps_left=2)
    assert world.begun == [0, 1, 2, 3]
    world.taken(lambda: world.end_when_begun(2, 3), steps_left=1)
    assert world.begun == [0, 1, 2, 3]


def test_a_dropped_group_is_replaced_as_it_ends() -> None:
    world = World(drop_groups=["all_fail"], max_extra_groups=2)

    def play() -> None:
        world.wait_for(1)
        world.end(0, LOST, LOST)
        world.wait_for(2)  # while 1 is still played
        world.end(2)
        world.end(1)

    groups = world.taken(play)
    assert ids(groups) == ORDER[:3]
    assert [group.task.id for group in groups.kept] == ORDER[1:3]
    assert world.stream.first == 3


def test_a_group_is_never_older_than_the_look_ahead() -> None:
    """Dropped groups bring later ones into earlier steps, so none waits longer than planned."""
    world = World(look_ahead=1, drop_groups=["all_fail"], max_extra_groups=2)
    begun_at: dict[int, int] = {}
    for step in range(12):
        first = world.stream.first

        def play(step: int = step, first: int = first) -> None:
            ended = {n for n, result in world.results.items() if result.done()}
            while world.stream.first == first:
                for number in sorted(world.results.keys() - ended, reverse=True):
                    begun_at.setdefault(number, step)
                    ended.add(number)
                    world.end(number, *((LOST, LOST) if number % 3 == 0 else (WON, LOST)))
                time.sleep(0.001)

        groups = world.taken(play, steps_left=99)
        for number in range(first, world.stream.first):
            assert step - begun_at[number] <= 1
        assert len(groups.kept) == 2
        assert ids(groups) == ORDER[first : world.stream.first]


def test_episodes_are_told_in_their_own_step() -> None:
    world = World(look_ahead=1)
    told: list[list[str]] = [[], []]
    world.taken(
        lambda: world.end_when_begun(2, 0, 1), on_episode=lambda e: told[0].append(e.task.id)
    )
    world.taken(lambda: world.end_when_begun(3), on_episode=lambda e: told[1].append(e.task.id))
    assert sorted(told[0]) == sorted(ORDER[:2] * 2)
    assert sorted(told[1]) == sorted(ORDER[2:4] * 2)


def test_what_ends_the_playing_is_raised() -> None:
    world = World()

    def fail() -> None:
        world.wait_for(1)
        world.results[1].set_exception(RuntimeError("the engine died"))

    with pytest.raises(RuntimeError, match="the engine died"):
        world.taken(fail)


def test_a_run_in_which_most_tasks_fail_stops_and_names_the_first() -> None:
    world = World(tasks_per_step=1)

    def play() -> None:
        for number in range(10):
            world.wait_for(number)
            world.end(number, BROKEN)

    with pytest.raises(ValueError, match=rf"10 of 10 tasks could not be played.*'{ORDER[0]}'"):
        world.taken(play)


def test_closing_cancels_what_is_played() -> None:
    world = World(look_ahead=2)
    world.taken(lambda: world.end_when_begun(0, 1))
    world.stream.close()
    assert all(world.results[number].cancelled() for number in range(2, 6))
    assert len(world.begun) == 6
    with pytest.raises(CancelledError):
        world.stream.take(steps_left=5)
