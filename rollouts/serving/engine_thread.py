"""Runs an engine in a thread of this process, for the coroutines of an event loop.

vLLM's own asynchronous engine lives in one more process. That process imports all of vLLM a second
time, which doubles the time of a start on a small machine, and every token crosses a socket. Here
one thread owns the engine and steps it. Whatever has to happen between two steps, such as new
weights, is a call that this thread runs between two steps.
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
    """The engine's own answer."""
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

    def add_request(self, request_id: str, prompt: Any, params: Any) -> None:
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

    answer: "Future[Any]"
    asked: float
    """When it was asked for, on the monotonic clock."""
    began: float | None = None
    """When the engine began to work on it, on the monotonic clock; None while it waits."""


def _death_by(error: BaseException) -> EngineDead:
    """A new error for each who is told: one that is raised twice grows by each traceback."""
    dead = EngineDead(f"the serving engine died: {describe(error)}")
    dead.__cause__ = error
    return dead


class EngineThread:
    """Owns an `SteppedEngine`, and hands it requests and calls."""

    def __init__(self, start: Callable[[], Any], *, places: int = 64) -> None:
        """Make the engine with `start`, in the thread. Raises what `start` raises.

        Args:
            places: how many requests the engine works on at once; further ones wait in its queue.
        """
        self._places = places
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
        started.result()
        self._born = time.monotonic()

    async def generate(self, prompt: Any, params: Any) -> tuple[Any, float]:
        """Return the engine's output of a request, and the seconds that it worked on it.

        Raises:
            EngineDead: the engine died before it answered.
            Exception: the engine refused the request.
        """
        request_id = str(next(self._request_ids))
        answer: Future[Any] = Future()
        running = _Running(answer=answer, asked=time.monotonic())
        add = partial(self._add, running, request_id, prompt, params)
        self._jobs.put(_Job(answer=answer, function=add))
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            self._jobs.put(_Job(answer=Future(), function=partial(self._abort, request_id)))
            raise

    async def call(self, function: Callable[[Any], T]) -> T:
        """Return `function(engine)`, called between two steps of the engine."""
        answer: Future[T] = Future()
        self._jobs.put(_Job(answer=answer, function=partial(self._call, answer, function)))
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
        update = partial(self._update, answer, load, loads)
        self._jobs.put(_Job(answer=answer, function=update, deadly=True))
        await asyncio.wrap_future(answer)

    def end(self, cause: str) -> None:
        """End the engine as one that died. Any thread may call it, and it returns at once."""

        def die() -> None:
            raise RuntimeError(cause)

        self._jobs.put(_Job(answer=Future(), function=die, deadly=True))

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
        self._jobs.put(_Job(answer=Future(), function=lambda: None))  # wakes the thread
        self._thread.join()

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
            unanswered = [running.answer for running in self._running.values()]
            if self._job is not None:
                unanswered.append(self._job.answer)
            self._running, self._job = {}, None
            for answer in unanswered:
                answer.set_exception(_death_by(error))
            # Whoever asks a dead engine gets its error too, and does not wait for ever.
            while not self._stopped:
                job = self._jobs.get()
                if job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(_death_by(error))
            with suppress(Exception):
                self._engine.shutdown()  # it may have processes left

    def _serve(self) -> None:
        """Alternate between the jobs and a step of the engine until `stop`."""
        engine = self._engine
        while not self._stopped:
            if not engine.has_unfinished_requests():
                self._do(self._jobs.get())
            try:
                while True:
                    self._do(self._jobs.get_nowait())
            except Empty:
                pass
            if engine.has_unfinished_requests():
                self._step()
        engine.shutdown()

    def _step(self) -> None:
        self._note_beginnings()
        began = time.monotonic()
        finished = self._engine.step()
        seconds = time.monotonic() - began
        self._totals += EngineStatistics(steps=1, busy_seconds=seconds)
        self._answer(finished)

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
            running.answer.set_result((request.output, seconds))

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

    def _add(self, running: _Running, request_id: str, prompt: Any, params: Any) -> None:
        self._engine.add_request(request_id, prompt, params)
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
