"""The thread's promises to its callers, with an engine that counts steps in the place of vLLM's."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from rollouts.serving.engine_thread import EngineThread


@dataclass
class Counting:
    """Answers a request after as many steps as its prompt says, with the number of that step."""

    steps: int = 0
    left: dict[str, int] = field(default_factory=dict)
    dies_at: int | None = None
    aborted: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def engine_core(self) -> Any:
        def shutdown() -> None:
            self.closed = True

        return SimpleNamespace(shutdown=shutdown)

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def add_request(self, request_id: str, prompt: int, params: None) -> None:
        if prompt < 1:
            raise ValueError("an empty prompt")
        self.left[request_id] = prompt

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        for request_id in request_ids:
            del self.left[request_id]

    def step(self) -> list[Any]:
        self.steps += 1
        if self.steps == self.dies_at:
            raise RuntimeError("out of memory")
        outputs = []
        for request_id in list(self.left):
            self.left[request_id] -= 1
            finished = self.left[request_id] == 0
            if finished:
                del self.left[request_id]
            outputs.append(SimpleNamespace(request_id=request_id, finished=finished, at=self.steps))
        return outputs


@pytest.fixture
def engine() -> Counting:
    return Counting()


@pytest.fixture
def thread(engine: Counting) -> Iterator[EngineThread]:
    thread = EngineThread(lambda: engine)
    yield thread
    thread.stop()


def test_requests_are_answered_as_they_end(thread: EngineThread, engine: Counting) -> None:
    async def ask() -> list[int]:
        outputs = await asyncio.gather(*(thread.generate(steps, None) for steps in (3, 1)))
        return [output.at for output, _ in outputs]

    first, second = asyncio.run(ask())
    # The second may have been added a step after the first.
    assert (first, second) in {(3, 1), (3, 2)}
    assert asyncio.run(thread.call(lambda e: e.steps)) == engine.steps


def test_the_wait_in_the_queue_is_not_counted() -> None:
    class OneAtATime(Counting):
        """Works on the oldest request only; a step takes 10 ms."""

        def step(self) -> list[Any]:
            time.sleep(0.01)
            waiting = dict(list(self.left.items())[1:])
            self.left = dict(list(self.left.items())[:1])
            outputs = super().step()
            self.left |= waiting
            return outputs

    thread = EngineThread(OneAtATime, places=1)

    async def ask() -> list[float]:
        answers = await asyncio.gather(*(thread.generate(5, None) for _ in range(4)))
        return [seconds for _, seconds in answers]

    seconds = asyncio.run(ask())
    thread.stop()
    assert all(0.04 < worked < 0.1 for worked in seconds), seconds


def test_a_refused_request_raises_and_others_go_on(thread: EngineThread) -> None:
    with pytest.raises(ValueError, match="an empty prompt"):
        asyncio.run(thread.generate(0, None))
    output, _ = asyncio.run(thread.generate(2, None))
    assert output.at == 2


def test_a_cancelled_request_leaves_the_engine(thread: EngineThread, engine: Counting) -> None:
    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await thread.generate(10**12, None)

    asyncio.run(cancel())
    assert asyncio.run(thread.call(lambda e: dict(e.left))) == {}
    assert engine.aborted == ["0"]


def test_an_error_of_the_start_is_raised_here() -> None:
    def start() -> Any:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        EngineThread(start)


def test_a_dead_engine_answers_everybody_with_its_error() -> None:
    thread = EngineThread(lambda: Counting(dies_at=2))
    thread.check()
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        asyncio.run(thread.generate(5, None))
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        asyncio.run(thread.generate(1, None))
    with pytest.raises(RuntimeError, match="the serving engine died: out of memory"):
        thread.check()
    thread.stop()


def test_stop_closes_the_engine(engine: Counting) -> None:
    EngineThread(lambda: engine).stop()
    assert engine.closed
