"""The stream with scripted workers, whose answers the test gives: no process, no Ray."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from envs import Task
from rollouts import StopReason, Trajectory
from rollouts.workers.engines import Engines
from rollouts.workers.jobs import group_jobs
from rollouts.workers.stream import EpisodeStream
from rollouts.workers.worker_processes import WorkerProcesses
from tests.builders.episodes import trajectory, turn

TASKS = [Task(env_id="e", split="train", family="f", id=f"t{number}") for number in range(9)]


class Request:
    """Stands for Ray's reference to an answer; the test gives the answer."""

    def __init__(self, worker: int, task: Task, arguments: dict[str, Any]) -> None:
        self.worker, self.task, self.arguments = worker, task, arguments
        self.answer: Future[Trajectory] = Future()

    def future(self) -> Future[Trajectory]:
        return self.answer


class Workers:
    """Stands for `WorkerProcesses`, and notes what each worker is asked to play."""

    def __init__(self, workers: int) -> None:
        self.requests: list[Request] = []
        self.actors = [
            SimpleNamespace(run=SimpleNamespace(remote=self._player(worker)))
            for worker in range(workers)
        ]
        self.replaced: list[int] = []

    def _player(self, worker: int) -> Callable[..., Request]:
        def play(task: Task, **arguments: Any) -> Request:
            self.requests.append(Request(worker, task, arguments))
            return self.requests[-1]

        return play

    def episode_ended(self) -> None:
        """The count of restarts is not tested here."""

    def bury(self, worker: int) -> None:
        """It died in no call."""

    def replace(self, worker: int, cause: str) -> None:
        self.replaced.append(worker)


class EnginePlaces:
    """Stands for `Engines`: two of them."""

    def __init__(self) -> None:
        self.load = [0, 0]

    def least_busy(self) -> int:
        return self.load.index(min(self.load))

    def begin(self, number: int) -> None:
        self.load[number] += 1

    def end(self, number: int, *, played: bool) -> None:
        self.load[number] -= 1


class World:
    """A stream whose events run at once."""

    def __init__(self, workers: int, places: int, engines: EnginePlaces | None = None) -> None:
        self.numbers = count()
        self.workers = Workers(workers)
        self.engines = engines
        self.stream = EpisodeStream(
            cast("WorkerProcesses", self.workers),
            cast("Engines", engines) if engines else None,
            places=places,
            limit_seconds=60.0,
            post=lambda event: cast("None", event()),
        )
        for worker in range(workers):
            self.stream.open(worker)

    def begin(self, task: int, size: int, **options: Any) -> Future[list[Trajectory]]:
        (jobs,) = group_jobs([TASKS[task]], size, temperature=1.0, seed=0, numbers=self.numbers)
        return self.stream.begin(jobs, None, **{"urgent": False, **options})

    @property
    def playing(self) -> list[Request]:
        return [request for request in self.workers.requests if not request.answer.done()]


def end(request: Request) -> Trajectory:
    episode = trajectory(turn(), task=request.task, stop_reason=StopReason.MAX_TURNS)
    request.answer.set_result(episode)
    return episode


def test_what_ends_makes_place_and_groups_are_whole_in_order() -> None:
    world = World(workers=1, places=2)
    first, second = world.begin(0, 2), world.begin(1, 1)
    one, two = world.playing
    of_two = end(two)
    (_, three) = world.playing
    assert three.task == TASKS[1]
    assert not first.done()
    of_one = end(one)
    assert first.result(timeout=0) == [of_one, of_two]
    of_three = end(three)
    assert second.result(timeout=0) == [of_three]


def test_an_urgent_group_comes_before_those_that_have_not_begun() -> None:
    world = World(workers=1, places=1)
    world.begin(0, 1)
    world.begin(1, 1)
    world.begin(2, 1, urgent=True)
    order = []
    while world.playing:
        (request,) = world.playing
        order.append(request.task)
        end(request)
    assert order == [TASKS[0], TASKS[2], TASKS[1]]


def test_a_group_stays_with_one_engine_and_groups_are_spread() -> None:
    engines = EnginePlaces()
    world = World(workers=2, places=2, engines=engines)
    for task in range(2):
        world.begin(task, 2)
    used: dict[Task, set[int]] = {}
    for request in world.playing:
        used.setdefault(request.task, set()).add(request.arguments["engine"])
    assert used == {TASKS[0]: {0}, TASKS[1]: {1}}
    assert engines.load == [2, 2]
    for request in world.playing:
        end(request)
    assert engines.load == [0, 0]


def test_the_jobs_of_a_dead_worker_are_played_by_others_and_once_more_each() -> None:
    from ray.exceptions import ActorDiedError

    world = World(workers=2, places=1)
    group = world.begin(0, 2)
    dead, alive = world.playing
    dead.answer.set_exception(ActorDiedError())
    assert world.workers.replaced == [dead.worker]
    assert world.playing == [alive], "the other one has no free place"
    end(alive)
    (again,) = world.playing
    assert (again.worker, again.arguments["number"]) == (alive.worker, dead.arguments["number"])
    again.answer.set_exception(ActorDiedError())
    broken, whole = group.result(timeout=0)
    assert broken.stop_reason is StopReason.ENV_ERROR
    assert whole.trains


def test_an_error_of_one_job_is_the_answer_of_its_group_alone() -> None:
    world = World(workers=1, places=2)
    wrong, right = world.begin(0, 1), world.begin(1, 1)
    one, two = world.playing
    one.answer.set_exception(ValueError("no expert"))
    with pytest.raises(ValueError, match="no expert"):
        wrong.result(timeout=0)
    of_two = end(two)
    assert right.result(timeout=0) == [of_two]


def test_who_waits_and_who_comes_later_gets_what_ended_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancelled: list[Request] = []
    monkeypatch.setattr("rollouts.workers.stream.cancel", cancelled.append)
    world = World(workers=1, places=1)
    groups = [world.begin(0, 1), world.begin(1, 1)]
    (playing,) = world.playing
    world.stream.fail(RuntimeError("the engine died"))
    for group in (*groups, world.begin(2, 1)):
        with pytest.raises(RuntimeError, match="the engine died"):
            group.result(timeout=0)
    assert cancelled == [playing]


def test_a_cancelled_group_is_played_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[Request] = []
    monkeypatch.setattr("rollouts.workers.stream.cancel", cancelled.append)
    world = World(workers=1, places=1)
    unwanted, wanted = world.begin(0, 2), world.begin(1, 1)
    (playing,) = world.playing
    unwanted.cancel()
    assert cancelled == [playing]
    end(playing)
    (last,) = world.playing
    assert last.task == TASKS[1]
    with pytest.raises(InvalidStateError):
        unwanted.set_result([])
    end(last)
    assert wanted.done()


def test_a_group_without_jobs_is_done_at_once() -> None:
    assert World(workers=1, places=1).stream.begin([], None, urgent=True).result(timeout=0) == []


def test_the_use_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("rollouts.workers.stream.time.monotonic", lambda: now[0])
    world = World(workers=1, places=2)
    world.begin(0, 3)
    now[0] = 4.0
    end(world.playing[0])  # two play for 4 s; the third takes the place
    now[0] = 5.0
    end(world.playing[0])  # for 1 s
    now[0] = 8.0
    end(world.playing[0])  # the last one alone for 3 s: the slowest
    now[0] = 10.0
    seconds = world.stream.place_seconds()
    assert (seconds.total, seconds.played, seconds.slowest) == (20.0, 13.0, 3.0)
