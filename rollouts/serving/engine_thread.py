"""Runs an engine in a thread of this process, for workers and for the coroutines of an event loop.

vLLM's own asynchronous engine lives in one more process. That process imports all of vLLM a second
time, which doubles the time of a start on a small machine, and every token crosses a socket. Here
one thread owns the engine and steps it. Whatever has to happen between two steps, such as new
weights, is a call that this thread runs between two steps. There it also takes the requests of
workers from their socket, and answers them.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from rollouts.episode import describe
from rollouts.serving.clients import Clients
from rollouts.serving.messages import ClientMessage
from rollouts.serving.request_server import RequestServer
from rollouts.serving.statistics import EngineStatistics

T = TypeVar("T")


class EngineDead(RuntimeError):
    """The engine has ended. It has not answered its requests, and answers no more."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A request that the engine is done with."""

    request_id: str
    """The number that it was added with."""
    output: Any
    """Its completion, or an error if the engine gave it up."""
    sampled_tokens: int
    """Token ids sampled."""
    prompt_tokens: int
    """Token ids of its prompt."""
    cached_tokens: int
    """Those of its prompt that were in the prefix cache."""
    preemptions: int
    """Times that it lost its place because the KV cache was full."""


class SteppedEngine(Protocol):
    """What the thread needs of an engine; only the thread calls it."""

    def has_unfinished_requests(self) -> bool:
        """Whether a step would do something."""

    def add_request(self, request_id: str, request: Any) -> None:
        """Take a request. Raises if the engine refuses it."""

    def abort_request(self, request_id: str) -> None:
        """Drop a request that it has."""

    def step(self) -> Sequence[Finished]:
        """Sample the next token of each running request; return the requests that ended."""

    def shutdown(self) -> None:
        """End it."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Something to do between two steps."""

    answer: "Future[Any]"
    """Answered by `function`, or by a later step."""
    function: Callable[[], None]
    deadly: bool = False
    """Whether an error of it ends the engine."""


@dataclass(kw_only=True)
class _Running:
    """A request that the engine has."""

    reply: "Reply"
    asked: float
    """When it was asked for, on the monotonic clock."""
    began: float | None = None
    """When the engine began to work on it, on the monotonic clock; None while it waits."""


Reply = Callable[[Any, float], None]
"""Gives whoever asked the completion or the error, and the seconds that the engine worked on it."""


def _death_by(error: BaseException) -> EngineDead:
    """A new error for each who is told: one that is raised twice grows by each traceback."""
    dead = EngineDead(f"the serving engine died: {describe(error)}")
    dead.__cause__ = error
    return dead


def _answer(answer: "Future[Any]", output: Any, seconds: float) -> None:
    """A `Reply` to a coroutine of this process."""
    if isinstance(output, Exception):
        answer.set_exception(output)
    else:
        answer.set_result((output, seconds))


class EngineThread:
    """Owns an `SteppedEngine`, and hands it requests and calls."""

    def __init__(
        self, start: Callable[[], Any], *, places: int = 64, host: str = "127.0.0.1"
    ) -> None:
        """Make the engine with `start`, in the thread. Raises what `start` raises.

        Args:
            places: how many requests the engine works on at once; further ones wait in its queue.
            host: the address of this machine at which workers reach it.
        """
        self._places = places
        self._server = RequestServer(host)
        self.address = self._server.address
        """Where workers send their requests."""
        self._clients = Clients()
        self._request_ids = itertools.count()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._job: _Job | None = None
        """The job that is done now."""
        self._running: dict[str, _Running] = {}
        """The requests that the engine has, by request id, the oldest first."""
        self._totals = EngineStatistics()
        """Replaced as a whole, so that other threads read numbers that belong together."""
        self._death: Future[None] = Future()
        """Gets the error that ended the engine."""
        # Now nobody who waits for it can cancel it.
        self._death.set_running_or_notify_cancel()
        self._stopped = False
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(start, started), name="engine", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._server.close()
            raise
        self._born = time.monotonic()

    async def generate(self, request: Any) -> tuple[Any, float]:
        """Return the completion of a request, and the seconds that the engine worked on it.

        Raises:
            EngineDead: the engine died before it answered.
            Exception: the engine refused the request.
        """
        request_id = str(next(self._request_ids))
        answer: Future[Any] = Future()
        running = _Running(reply=partial(_answer, answer), asked=time.monotonic())
        self._put(answer, partial(self._add, running, request_id, request))
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            self._put(Future(), partial(self._abort, request_id))
            raise

    async def call(self, function: Callable[[Any], T]) -> T:
        """Return `function(engine)`, called between two steps of the engine."""
        answer: Future[T] = Future()
        self._put(answer, partial(self._call, answer, function))
        return await asyncio.wrap_future(answer)

    async def update(
        self, load: Callable[[Any], Sequence[Finished]], *, loads: bool = True
    ) -> None:
        """Call `load(engine)` between two steps. It loads new weights while requests are in flight.

        Args:
            load: returns the requests that ended before the new weights came in.
            loads: whether it does load weights, and counts as that.

        Raises:
            EngineDead: `load` raised. Its weights may be half old and half new, so the engine has
                ended.
        """
        answer: Future[None] = Future()
        self._put(answer, partial(self._update, answer, load, loads), deadly=True)
        await asyncio.wrap_future(answer)

    def end(self, cause: str) -> None:
        """End the engine as one that died. Any thread may call it, and it returns at once."""

        def die() -> None:
            raise RuntimeError(cause)

        self._put(Future(), die, deadly=True)

    def check(self) -> None:
        """Raise `EngineDead` if the engine has ended."""
        if self._death.done():
            self._death.result()

    async def until_dead(self) -> None:
        """Wait until the engine ends by itself, and raise `EngineDead`. It never returns."""
        await asyncio.wrap_future(self._death)

    def steps(self) -> tuple[int, bool]:
        """Return the steps so far, and whether the engine has anything to do now.

        The answer comes at once, also if a step hangs. A load of weights is work, and no step.
        """
        busy = bool(self._running) or self._job is not None or not self._jobs.empty()
        return self._totals.steps, busy

    def statistics(self) -> EngineStatistics:
        """Return the totals since the start."""
        return replace(self._totals, seconds=time.monotonic() - self._born)

    def stop(self) -> None:
        """End the engine and its thread. Requests that it works on get no answer."""
        self._stopped = True
        self._put(Future(), lambda: None)  # wakes the thread
        self._thread.join()
        self._server.close()

    def forget(self, client: str) -> None:
        """Drop the requests of a worker's client that is gone."""
        self._put(Future(), partial(self._forget, client.encode()))

    def _put(
        self, answer: "Future[Any]", function: Callable[[], None], *, deadly: bool = False
    ) -> None:
        """Let the thread call `function` between two steps."""
        self._jobs.put(_Job(answer=answer, function=function, deadly=deadly))
        self._server.wake()

    def _run(self, start: Callable[[], Any], started: "Future[None]") -> None:
        try:
            self._engine = start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        try:
            self._serve()
        except BaseException as error:
            self._death.set_exception(_death_by(error))
            running, job = self._running.values(), self._job
            self._running, self._job = {}, None
            for request in running:
                request.reply(_death_by(error), 0.0)
            if job is not None:
                job.answer.set_exception(_death_by(error))
            # Whoever asks a dead engine gets its error too, and does not wait for ever.
            while not self._stopped:
                job = self._jobs.get()
                if job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(_death_by(error))
            with suppress(Exception):
                self._engine.shutdown()  # it may have processes left

    def _serve(self) -> None:
        """Alternate between what others ask for and a step of the engine until `stop`."""
        engine = self._engine
        while not self._stopped:
            if not engine.has_unfinished_requests():
                self._server.wait()
            self._take()
            if engine.has_unfinished_requests():
                self._step()
        engine.shutdown()

    def _take(self) -> None:
        """Do the jobs, and take what the workers have sent."""
        try:
            while True:
                self._do(self._jobs.get_nowait())
        except Empty:
            pass
        for client, message in self._server.receive():
            self._take_message(client, message)
        self._clients.send(self._server)

    def _take_message(self, client: bytes, message: ClientMessage) -> None:
        now = time.monotonic()
        if not self._clients.note(client, message):
            return
        for request in message.requests:
            request_id = f"{client.decode()}-{request.number}"
            reply = partial(self._clients.reply, client, request.number)
            try:
                self._add(_Running(reply=reply, asked=now), request_id, request)
            except Exception as error:
                reply(error, 0.0)
        for number in message.cancelled:
            self._abort(f"{client.decode()}-{number}")

    def _forget(self, client: bytes) -> None:
        self._clients.forget(client)
        of_client = f"{client.decode()}-"
        for request_id in [one for one in self._running if one.startswith(of_client)]:
            self._abort(request_id)

    def _step(self) -> None:
        self._note_beginnings()
        began = time.monotonic()
        finished = self._engine.step()
        seconds = time.monotonic() - began
        self._totals += EngineStatistics(steps=1, busy_seconds=seconds)
        self._answer(finished)
        self._wait_for_next_turns(seconds)

    def _wait_for_next_turns(self, step_seconds: float) -> None:
        """Wait a moment for those that were just answered, if that is better than a step without.

        A worker that got an answer asks again within milliseconds. A step that does not wait for it
        costs the answered episodes a whole step; waiting costs all others that moment.
        """
        answered = self._clients.answered
        self._clients.answered = 0
        worth = step_seconds * answered / max(1, len(self._running))
        if not answered or self._clients.away > worth:
            return
        ends = time.monotonic() + min(worth, 2 * self._clients.away)
        while self._clients.came_back < answered and (left := ends - time.monotonic()) > 0:
            self._server.wait(left)
            self._take()

    def _answer(self, finished: Sequence[Finished]) -> None:
        now = time.monotonic()
        for request in finished:
            self._totals += EngineStatistics(
                requests=1,
                sampled_tokens=request.sampled_tokens,
                prompt_tokens=request.prompt_tokens,
                cached_tokens=request.cached_tokens,
                preemptions=request.preemptions,
            )
            running = self._running.pop(request.request_id)
            seconds = 0.0 if running.began is None else now - running.began
            running.reply(request.output, seconds)
        self._clients.send(self._server)

    def _note_beginnings(self) -> None:
        # vLLM serves first who came first, so those that have left its queue are the oldest.
        now = time.monotonic()
        for running in itertools.islice(self._running.values(), self._places):
            if running.began is None:
                running.began = now
                self._totals += EngineStatistics(queue_seconds=now - running.asked)

    def _do(self, job: _Job) -> None:
        if not job.answer.set_running_or_notify_cancel():
            return
        self._job = job
        try:
            job.function()
        except Exception as error:
            if job.deadly:
                raise  # the end of the engine answers it, as all others
            job.answer.set_exception(error)
        self._job = None

    def _add(self, running: _Running, request_id: str, request: Any) -> None:
        self._engine.add_request(request_id, request)
        self._running[request_id] = running

    def _call(self, answer: "Future[T]", function: Callable[[Any], T]) -> None:
        answer.set_result(function(self._engine))

    def _update(
        self, answer: "Future[None]", load: Callable[[Any], Sequence[Finished]], loads: bool
    ) -> None:
        began = time.monotonic()
        finished = load(self._engine)
        seconds = time.monotonic() - began
        if loads:
            self._totals += EngineStatistics(reloads=1, reload_seconds=seconds)
        self._answer(finished)
        for running in self._running.values():
            # It is no request's own time.
            if running.began is not None:
                running.began += seconds
        answer.set_result(None)

    def _abort(self, request_id: str) -> None:
        # None: its answer was faster, or its request was cancelled before it was added.
        if self._running.pop(request_id, None) is not None:
            self._engine.abort_request(request_id)
