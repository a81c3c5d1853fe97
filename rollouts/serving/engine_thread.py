"""Runs vLLM's engine in a thread of this process, for the coroutines of an event loop.

vLLM's own asynchronous engine lives in one more process. That process imports all of vLLM a second
time, which doubles the time of a start on a small machine, and every token crosses a socket. Here
one thread owns the engine and steps it. Whatever has to happen between two steps, such as new
weights, is a call that this thread runs between two steps.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Future[Any], Callable[[], None]]
"""A future, and the function that answers it, or arranges that a later step does."""


class EngineThread:
    """Owns an engine with the methods of `vllm.v1.engine.llm_engine.LLMEngine`."""

    def __init__(self, start: Callable[[], Any], *, places: int = 64) -> None:
        """Make the engine with `start`, in the thread. Raises what `start` raises.

        Args:
            places: how many requests the engine works on at once; further ones wait in its queue.
        """
        self._places = places
        self._request_ids = itertools.count()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._answers: dict[str, Future[Any]] = {}
        """The futures of the requests that the engine has, by request id, the oldest first."""
        self._began: dict[str, float] = {}
        """When the engine began to work on a request, by request id, on the monotonic clock."""
        self._error: BaseException | None = None
        """What ended the engine."""
        self._stopped = False
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(start, started), name="engine", daemon=True
        )
        self._thread.start()
        started.result()

    async def generate(self, prompt: Any, params: Any) -> tuple[Any, float]:
        """Return vLLM's final output of a request, and the seconds that the engine worked on it.

        Raises:
            Exception: vLLM refused the request, or the engine died.
        """
        request_id = str(next(self._request_ids))
        answer: Future[Any] = Future()
        self._jobs.put((answer, partial(self._add, answer, request_id, prompt, params)))
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            self._jobs.put((Future(), partial(self._abort, request_id)))
            raise

    async def call(self, function: Callable[[Any], T]) -> T:
        """Return `function(engine)`, called between two steps of the engine."""
        answer: Future[T] = Future()
        self._jobs.put((answer, partial(self._call, answer, function)))
        return await asyncio.wrap_future(answer)

    def check(self) -> None:
        """Raise the error that ended the engine, if it has ended."""
        if self._error is not None:
            raise RuntimeError(f"the serving engine died: {self._error}") from self._error

    def stop(self) -> None:
        """End the engine and its thread. Requests that it works on get no answer."""
        self._stopped = True
        self._jobs.put((Future(), lambda: None))  # wakes the thread
        self._thread.join()

    def _run(self, start: Callable[[], Any], started: Future[None]) -> None:
        try:
            self._engine = start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        try:
            self._serve()
        except BaseException as error:
            self._error = error
            for answer in self._answers.values():
                answer.set_exception(error)
            # Whoever asks a dead engine gets its error too, and does not wait for ever.
            while not self._stopped:
                answer, _ = self._jobs.get()
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(error)

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
                self._note_beginnings()
                for output in engine.step():
                    if output.finished:
                        now = time.monotonic()
                        seconds = now - self._began.pop(output.request_id, now)
                        self._answers.pop(output.request_id).set_result((output, seconds))
        engine.engine_core.shutdown()

    def _note_beginnings(self) -> None:
        # vLLM serves first who came first, so those that have left its queue are the oldest.
        now = time.monotonic()
        for request_id in itertools.islice(self._answers, self._places):
            self._began.setdefault(request_id, now)

    def _do(self, job: _Job) -> None:
        answer, function = job
        if answer.set_running_or_notify_cancel():
            try:
                function()
            except Exception as error:
                answer.set_exception(error)

    def _add(self, answer: Future[Any], request_id: str, prompt: Any, params: Any) -> None:
        self._engine.add_request(request_id, prompt, params)
        self._answers[request_id] = answer

    def _call(self, answer: Future[T], function: Callable[[Any], T]) -> None:
        answer.set_result(function(self._engine))

    def _abort(self, request_id: str) -> None:
        # None: its answer was faster, or its request was cancelled before it was added.
        self._began.pop(request_id, None)
        if self._answers.pop(request_id, None) is not None:
            self._engine.abort_request([request_id])
