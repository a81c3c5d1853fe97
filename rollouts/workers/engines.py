"""The serving engines: processes that are started, watched, and replaced when they die or hang.

An episode's requests hold their whole prompt. So if an engine dies, nothing is lost but the
completions that it was at. Another engine gets the same requests again, until the new one that
replaces it serves the present weights.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rollouts.processes.openmp import OPENMP
from rollouts.processes.ray_cluster import WAIT_SECONDS, Places, address_of
from rollouts.processes.ray_failures import ProcessesGone, cause_in_process, death_of
from rollouts.processes.ray_processes import (
    end_processes,
    process_of,
    wait,
    when_answered,
)
from rollouts.serving.messages import Address
from rollouts.serving.policy_actor import PolicyActor
from rollouts.serving.remote_policy import RemotePolicy
from rollouts.serving.statistics import EngineStatistics
from rollouts.settings import ServingSettings
from rollouts.workers.clients import EngineClients
from rollouts.workers.events import Event
from rollouts.workers.nodes import Nodes

_SHUTDOWN_SECONDS = 10.0
"""The longest time that an engine gets to end by itself."""


@dataclass(kw_only=True, eq=False)
class _Engine:
    """One engine's process. A replacement is another `_Engine` with the same number."""

    number: int
    """Its place among the engines."""
    actor: Any
    """Ray's actor."""
    node: str | None = None
    """The node that it runs on; None before it is there."""
    version: int = -1
    """The version of the weights that it was last given."""
    address: Address | None = None
    """Where workers reach it; None before it has started."""
    began_at: float = field(default_factory=time.monotonic)
    """When its process was asked for, or is there (monotonic)."""
    ready: bool = False
    """Whether it can play."""
    gone: bool = False
    """Whether it has ended, and is not replaced yet."""
    steps: int = 0
    """Its steps when it was last asked."""
    moved_at: float = 0.0
    """When it was last seen idle, or with more steps than before (monotonic)."""
    asked: bool = False
    """Whether a question for its steps is under way."""
    memory: tuple[Path, ...] = ()
    """The shared memory between its processes, which is deleted when they have ended."""
    done: EngineStatistics = field(default_factory=EngineStatistics)
    """What it had done when it was last asked."""


Answer = Callable[[], Any]
"""Returns an answer of a process, or raises its error."""
AnswerHandler = Callable[[_Engine, Answer], object]


class Engines:
    """`serving.replicas` engines. All methods but `close` run in the pool's thread."""

    def __init__(
        self,
        nodes: Nodes,
        version: int,
        settings: ServingSettings,
        *,
        places: Places,
        post: Callable[[Event], None],
        on_ready: Callable[[], None],
        workers: Callable[[], Sequence[Any]],
        stops: bool,
    ) -> None:
        """Start the processes, without waiting for them.

        Args:
            nodes: have the weights, as `version`.
            places: the last ones are those of the engines.
            post: lets the pool's thread call a function.
            on_ready: is called whenever an engine can play.
            workers: returns the actors of the workers, in their order.
            stops: see `ServedPolicy`.
        """
        self._settings, self._places, self._post = settings, places, post
        self._on_ready, self._nodes, self._version = on_ready, nodes, version
        self._stops, self._restarts = stops, 0
        """Engines replaced since an episode ended."""
        self._started_once = False
        """Whether all have been ready. Before, a start that hangs ends the run: so would others."""
        self._done_before = EngineStatistics()
        """What the engines that were replaced had done when they were last asked."""
        self._episodes = [0] * settings.replicas
        """Episodes in flight by engine."""
        self._asleep = False
        """Whether the engines have given their memory back, and wait for new weights."""
        self._sockets: TemporaryDirectory[str] | None = None
        """For the files between an engine's processes, which stay behind if they are killed."""
        if settings.tensor_parallel > 1:
            self._sockets = TemporaryDirectory(prefix="agent-rl-engines-")
        self._engines = [self._start(number) for number in range(settings.replicas)]
        self._clients = EngineClients(self._engines, workers)

    @property
    def ready(self) -> bool:
        """Whether all engines can play."""
        return all(engine.ready for engine in self._engines)

    @property
    def actors(self) -> list[Any]:
        """The engines' actors."""
        return [engine.actor for engine in self._engines]

    @property
    def nodes(self) -> list[str | None]:
        """Ray's ids of the nodes that they run on; None before an engine is there."""
        return [engine.node for engine in self._engines]

    def close(self) -> None:
        """End all engines; the pool's thread has stopped."""
        # A killed engine leaves processes of its own behind, so it is asked to stop first.
        there = [engine.actor for engine in self._engines if engine.node is not None]
        wait([actor.shutdown.remote() for actor in there], seconds=_SHUTDOWN_SECONDS)
        end_processes(self.actors)
        for engine in self._engines:
            _delete(engine.memory)
        if self._sockets is not None:
            self._sockets.cleanup()

    def clients(self, worker: int) -> list[RemotePolicy]:
        """Return a client of each engine for a worker whose process is new."""
        return self._clients.make(worker)

    def least_busy(self) -> int:
        """Return the number of the engine with the fewest episodes."""
        return self._episodes.index(min(self._episodes))

    def begin(self, number: int) -> None:
        """Note one more episode of an engine."""
        self._episodes[number] += 1

    def end(self, number: int, *, played: bool) -> None:
        """Note one episode less of an engine.

        Args:
            played: whether the episode ended; then the count of restarts in a row begins again.
        """
        self._episodes[number] -= 1
        if played:
            self._restarts = 0

    def sync(self, version: int, done: Future[None]) -> None:
        """Serve the present weights of the nodes, as `version`; answer `done` when all engines do.

        An engine that dies meanwhile, or is just starting, serves them from its start.
        """
        self._version, self._asleep = version, False
        for engine in self._engines:
            if engine.gone:
                self._engines[engine.number] = self._start(engine.number)
        self._ask_ready(self._send_weights, done)

    def sleep(self, done: Future[None]) -> None:
        """Let the engines give their memory back until `sync`; answer `done` when they have.

        One that dies meanwhile, or is just starting, is started by `sync`: there is no memory for
        it before.
        """
        self._asleep = True
        for engine in self._engines:
            if not engine.ready and not engine.gone:
                engine.gone = True
                end_processes([engine.actor])
        self._ask_ready(
            lambda engine, then: self._then(engine.actor.sleep.remote(), engine, then), done
        )

    def add_up(self, done: Future[EngineStatistics]) -> None:
        """Answer `done` with what all engines have done since the start, replaced ones included."""
        asked = [engine for engine in self._engines if engine.ready]
        left = {engine.number for engine in asked}

        def answered(engine: _Engine, answer: Answer) -> None:
            if self._is_well(engine, answer):
                engine.done = answer()
            left.discard(engine.number)
            answer_if_whole()

        def answer_if_whole() -> None:
            if not left and not done.done():
                done.set_result(
                    sum((engine.done for engine in self._engines), start=self._done_before)
                )

        answer_if_whole()
        for engine in asked:
            self._then(engine.actor.statistics.remote(), engine, answered)

    def look(self) -> None:
        """Ask the engines for their steps, and replace one that has made none for too long.

        Raises:
            ProcessesGone: one does not start in time, too many were replaced in a row, or no
                engine is left and no node has room for one.
        """
        self._require_room()
        limit = self._settings.step_timeout_seconds
        for engine in self._engines:
            if self._asleep or engine.gone:
                engine.moved_at = time.monotonic()
            elif not engine.ready:
                # One that waits for a place is another matter.
                if engine.node is not None or not self._places.may_wait:
                    self._look_at_start(engine)
            elif time.monotonic() - engine.moved_at > limit:
                reason = f"it made no step within {limit:g} s (serving.step_timeout_seconds)"
                self._replace(engine, reason)
            elif not engine.asked:
                engine.asked = True
                self._then(engine.actor.steps.remote(), engine, self._answered)

    def _look_at_start(self, engine: _Engine) -> None:
        """Replace an engine that takes too long to start, or end the run at its beginning."""
        limit = self._settings.start_timeout_seconds
        if time.monotonic() - engine.began_at <= limit:
            return
        reason = f"did not start within {limit:g} s"
        if not self._started_once:
            raise ProcessesGone(
                f"the serving engine {reason}; if its model only takes long to load, raise "
                "serving.step_timeout_seconds, as a start may take ten times as long"
            )
        self._replace(engine, f"it {reason} (see serving.step_timeout_seconds)")

    def _require_room(self) -> None:
        now = time.monotonic()
        overdue = [e.node is None and now - e.began_at > WAIT_SECONDS for e in self._engines]
        # As long as there are others, they play.
        too_few = all(overdue) or (any(overdue) and not self._started_once)
        if too_few and self._places.may_wait and not self._asleep:
            raise ProcessesGone(
                f"no node has had room for a serving engine for {WAIT_SECONDS:g} s: "
                f"{self._places.missing()}"
            )

    def _start(self, number: int) -> _Engine:
        environment = {"OMP_NUM_THREADS": str(self._settings.threads), **OPENMP}
        if self._sockets is not None:
            environment["TMPDIR"] = self._sockets.name
        new = process_of(
            PolicyActor,
            # `until_dead` waits in the actor as long as it lives; others must not wait behind it.
            max_concurrency=64,
            environment=environment,
            place=self._places.options(number - self._settings.replicas),
        )
        engine = _Engine(number=number, actor=new(self._settings, stops=self._stops))
        self._then(engine.actor.process_id.remote(), engine, self._placed)
        return engine

    def _ask_ready(
        self, ask: Callable[[_Engine, AnswerHandler], object], done: Future[None]
    ) -> None:
        """Ask all engines that can play; answer `done` when all have answered, or have died."""
        left = {engine.number for engine in self._engines if engine.ready}
        if not left:
            done.set_result(None)

        def answered(engine: _Engine, answer: Answer) -> None:
            self._is_well(engine, answer)
            left.discard(engine.number)
            if not left and not done.done():
                done.set_result(None)

        for number in tuple(left):
            ask(self._engines[number], answered)

    def _send_weights(self, engine: _Engine, then: AnswerHandler) -> None:
        engine.version = self._version
        assert engine.node is not None, "it is not there yet"
        folder = self._nodes.weights(engine.node)
        self._then(engine.actor.sync_weights.remote(folder, self._version), engine, then)

    def _then(self, reference: Any, engine: _Engine, do: AnswerHandler) -> None:
        """Call `do` in the pool's thread when an engine has answered."""
        when_answered(reference, lambda answer: self._post(partial(do, engine, answer)))

    def _placed(self, engine: _Engine, answer: Answer) -> None:
        """Let a new process load the weights, which its node has."""
        if self._is_well(engine, answer):
            engine.node, _ = answer()
            engine.version, engine.began_at = self._version, time.monotonic()
            self._nodes.settle(engine.actor, engine.node)
            folder, host = self._nodes.weights(engine.node), address_of(engine.node)
            starting = engine.actor.start.remote(folder, self._version, host)
            self._then(starting, engine, self._born)

    def _born(self, engine: _Engine, answer: Answer) -> None:
        """Note where an engine is."""
        if self._is_well(engine, answer):
            engine.address = answer()
            self._started(engine, answer)

    def _started(self, engine: _Engine, answer: Answer) -> None:
        """Let an engine play, once it serves the present weights."""
        if not self._is_well(engine, answer):
            return
        if engine.version != self._version:
            self._send_weights(engine, self._started)
            return
        engine.ready, engine.moved_at = True, time.monotonic()
        self._started_once = self._started_once or self.ready
        self._then(engine.actor.until_dead.remote(), engine, self._is_well)
        if self._sockets is not None:
            self._then(engine.actor.shared_memory.remote(), engine, self._note_memory)
        self._clients.begin(engine.number, engine, self._engines)
        self._on_ready()

    def _note_memory(self, engine: _Engine, answer: Answer) -> None:
        if self._is_well(engine, answer) and self._nodes.is_here(engine.node):
            engine.memory = answer()

    def _answered(self, engine: _Engine, answer: Answer) -> None:
        """Note an engine's steps."""
        if self._is_well(engine, answer):
            steps, busy = answer()
            if steps != engine.steps or not busy:
                engine.steps, engine.moved_at = steps, time.monotonic()
            engine.asked = False

    def _is_well(self, engine: _Engine, answer: Answer) -> bool:
        """Whether an engine answered without an error; one that did not is replaced.

        Raises:
            ValueError: it cannot serve these weights; another one could not, either.
        """
        try:
            answer()
        except ValueError:
            raise
        except Exception as error:
            # Several calls tell of one death.
            if engine is self._engines[engine.number] and not engine.gone:
                cause = cause_in_process(error)
                self._replace(engine, death_of(error) or str(cause or error))
            return False
        return True

    def _replace(self, engine: _Engine, cause: str) -> None:
        """Start a new engine for one that died of `cause`.

        Raises:
            ProcessesGone: too many were replaced in a row.
        """
        self._restarts += 1
        if self._restarts > self._settings.max_restarts:
            raise ProcessesGone(
                f"the serving engine died {self._restarts} times in a row without an episode that "
                f"ended in between (serving.max_restarts: {self._settings.max_restarts}); the last "
                f"time: {cause}"
            )
        end_processes([engine.actor])
        _delete(engine.memory)
        self._done_before += engine.done
        engine.done, engine.ready, engine.gone = EngineStatistics(), False, True
        if not self._asleep:
            self._engines[engine.number] = self._start(engine.number)
        # It takes a while, and on a cluster there may be no room. Meanwhile another one plays.
        stand_in = next((other for other in self._engines if other.ready), None)
        if stand_in is not None:
            self._clients.leave(engine, stand_in)


def _delete(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
