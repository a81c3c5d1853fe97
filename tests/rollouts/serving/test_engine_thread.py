"""The thread's promises to its callers, with an engine that counts steps in the place of vLLM's."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rollouts.serving.engine_thread import EngineDead, EngineThread, Finished
from rollouts.serving.statistics import EngineStatistics
from tests.builders.stepped_engines import Counting


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
        outputs = await asyncio.gather(*(thread.generate(steps) for steps in (5000, 1)))
        return [step for step, _ in outputs]

    first, second = asyncio.run(ask())
    # The second may have been added some steps after the first.
    assert first == 5000
    assert 1 <= second < 5000
    assert asyncio.run(thread.call(lambda e: e.steps)) == engine.steps


def test_the_wait_in_the_queue_is_not_counted() -> None:
    class OneAtATime(Counting):
        """Works on the oldest request only; a step takes 10 ms."""

        def step(self) -> list[Finished]:
            time.sleep(0.01)
            waiting = dict(list(self.left.items())[1:])
            self.left = dict(list(self.left.items())[:1])
            outputs = super().step()
            self.left |= waiting
            return outputs

    thread = EngineThread(OneAtATime, places=1)

    async def ask() -> list[float]:
        answers = await asyncio.gather(*(thread.generate(5) for _ in range(4)))
        return [seconds for _, seconds in answers]

    seconds = asyncio.run(ask())
    thread.stop()
    assert all(worked > 0.04 for worked in seconds), seconds
    # Each had the engine for itself, for five of its twenty steps.
    busy = thread.statistics().busy_seconds
    assert sum(seconds) < 1.2 * busy, (seconds, busy)
    # The second waited for 5 steps, the third for 10, the last for 15.
    assert 0.25 < thread.statistics().queue_seconds < 2 * busy


def test_a_refused_request_raises_and_others_go_on(thread: EngineThread) -> None:
    with pytest.raises(ValueError, match="an empty prompt"):
        asyncio.run(thread.generate(0))
    assert asyncio.run(thread.generate(2))[0] == 2


def test_a_cancelled_request_leaves_the_engine(thread: EngineThread, engine: Counting) -> None:
    async def cancel() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await thread.generate(10**12)

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
    died = r"^the serving engine died: RuntimeError: out of memory$"

    async def ask() -> None:
        watch = asyncio.ensure_future(thread.until_dead())
        given_up = asyncio.ensure_future(thread.until_dead())
        await asyncio.sleep(0.01)
        given_up.cancel()
        assert not watch.done()
        with pytest.raises(EngineDead, match=died):
            await thread.generate(5)
        with pytest.raises(EngineDead, match=died):
            await watch

    asyncio.run(ask())
    with pytest.raises(EngineDead, match=died):
        asyncio.run(thread.generate(1))
    with pytest.raises(EngineDead, match=died):
        asyncio.run(thread.until_dead())
    with pytest.raises(EngineDead, match=died):
        thread.check()
    thread.stop()


def test_weights_come_in_between_two_steps() -> None:
    class Slow(Counting):
        def step(self) -> list[Finished]:
            time.sleep(0.001)
            return super().step()

    def load(engine: Slow) -> list[Finished]:
        # The second request had its last token in a batch that was under way.
        engine.steps += 1000
        del engine.left["1"]
        time.sleep(1.0)
        return [engine.finished("1")]

    thread = EngineThread(Slow)

    async def ask() -> list[tuple[int, float]]:
        asked = [asyncio.ensure_future(thread.generate(steps)) for steps in (300, 10**9)]
        while thread.steps()[0] < 5:
            await asyncio.sleep(0)
        await thread.update(load)
        answers: list[tuple[int, float]] = await asyncio.gather(*asked)
        return answers

    (step, seconds), (early, _) = asyncio.run(ask())
    statistics = thread.statistics()
    thread.stop()
    assert step == 1300
    assert 1005 <= early < 1300
    assert statistics.reloads == 1
    assert statistics.reload_seconds >= 1.0
    # The load is no request's own time.
    assert seconds < statistics.seconds - 1.0


def test_torn_weights_end_the_engine() -> None:
    thread = EngineThread(Counting)

    def torn(_: Counting) -> list[Finished]:
        raise OSError("half a file")

    async def ask() -> None:
        asked = asyncio.ensure_future(thread.generate(10**12))
        await asyncio.sleep(0.01)
        with pytest.raises(EngineDead, match="the serving engine died: OSError: half a file"):
            await thread.update(torn)
        with pytest.raises(EngineDead, match="half a file"):
            await asked
        # It would be answered by half new weights.
        with pytest.raises(EngineDead, match="half a file"):
            await thread.generate(1)

    asyncio.run(ask())
    thread.stop()


def test_an_engine_that_is_told_of_a_death_ends_also_without_requests(
    thread: EngineThread, engine: Counting
) -> None:
    async def scenario() -> None:
        watch = asyncio.ensure_future(thread.until_dead())
        await asyncio.sleep(0.01)
        assert not watch.done()
        thread.end("one of its processes ended")
        with pytest.raises(EngineDead, match="died: RuntimeError: one of its processes ended"):
            await watch

    asyncio.run(scenario())
    assert not engine.closed
    thread.stop()
    assert engine.closed


def test_a_sleep_counts_as_no_load(thread: EngineThread, engine: Counting) -> None:
    asyncio.run(thread.update(lambda _: [], loads=False))
    assert thread.statistics().reloads == 0
    asyncio.run(thread.update(lambda _: []))
    assert thread.statistics().reloads == 1


def test_a_call_that_fails_is_its_callers_error(thread: EngineThread) -> None:
    def fail(_: Counting) -> None:
        raise KeyError("nothing")

    with pytest.raises(KeyError, match="nothing"):
        asyncio.run(thread.call(fail))
    assert asyncio.run(thread.generate(1))[0] == 1


def test_the_heartbeat_tells_a_hang_from_rest() -> None:
    go_on = threading.Event()

    class Hanging(Counting):
        def step(self) -> list[Finished]:
            if self.steps == 2:
                go_on.wait(10.0)
            return super().step()

    thread = EngineThread(Hanging)
    assert thread.steps() == (0, False)

    async def ask() -> None:
        asked = asyncio.ensure_future(thread.generate(3))
        while thread.steps()[0] < 2:
            await asyncio.sleep(0.001)
        for _ in range(5):
            assert thread.steps() == (2, True)
            await asyncio.sleep(0.01)
        go_on.set()
        await asked

    asyncio.run(ask())
    assert thread.steps() == (3, False)
    thread.stop()


def test_the_statistics_add_up() -> None:
    class Slow(Counting):
        def step(self) -> list[Finished]:
            time.sleep(0.01)
            return super().step()

    thread = EngineThread(Slow)
    asyncio.run(thread.generate(4))
    before = thread.statistics()
    time.sleep(0.05)

    async def ask() -> None:
        await asyncio.gather(*(thread.generate(3) for _ in range(2)))

    asyncio.run(ask())
    period = thread.statistics() - before
    thread.stop()
    assert (before.requests, before.steps) == (1, 4)
    assert period == EngineStatistics(
        seconds=period.seconds,
        busy_seconds=period.busy_seconds,
        queue_seconds=period.queue_seconds,
        steps=period.steps,
        requests=2,
        sampled_tokens=10,
        prompt_tokens=6,
        cached_tokens=4,
        preemptions=2,
    )
    # The second may have been added a step after the first.
    assert period.steps in {3, 4}
    assert period.busy_seconds >= 0.03
    assert 0.05 + period.busy_seconds < period.seconds


def test_stop_closes_the_engine(engine: Counting) -> None:
    EngineThread(lambda: engine).stop()
    assert engine.closed
