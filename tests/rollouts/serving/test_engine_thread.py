"""The thread's promises to its callers, with an engine that counts steps in the place of vLLM's."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from rollouts.serving.engine_thread import EngineDead, EngineThread, Finished
from rollouts.serving.messages import CompletionRequest
from rollouts.serving.remote_policy import RemotePolicy
from rollouts.serving.statistics import EngineStatistics
from rollouts.types import Completion, FinishReason


@dataclass
class Counting:
    """Answers a request after as many steps as its prompt says, with the number of that step.

    Each has three tokens of a prompt, two of them in the cache, and was preempted once.
    """

    steps: int = 0
    left: dict[str, int] = field(default_factory=dict)
    dies_at: int | None = None
    aborted: list[str] = field(default_factory=list)
    closed: bool = False

    def shutdown(self) -> None:
        self.closed = True

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def add_request(self, request_id: str, prompt: int) -> None:
        if prompt < 1:
            raise ValueError("an empty prompt")
        self.left[request_id] = prompt

    def abort_request(self, request_id: str) -> None:
        self.aborted.append(request_id)
        del self.left[request_id]

    def step(self) -> list[Finished]:
        self.steps += 1
        if self.steps == self.dies_at:
            raise RuntimeError("out of memory")
        outputs = []
        for request_id in list(self.left):
            self.left[request_id] -= 1
            if self.left[request_id] == 0:
                del self.left[request_id]
                outputs.append(self.finished(request_id))
        return outputs

    def finished(self, request_id: str) -> Finished:
        return Finished(
            request_id=request_id,
            output=self.steps,
            sampled_tokens=5,
            prompt_tokens=3,
            cached_tokens=2,
            preemptions=1,
        )


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


class ForWorkers(Counting):
    """A request takes as many steps as it may have tokens; a step takes 10 ms.

    The token of a completion is the number of requests in its last step.
    """

    def add_request(self, request_id: str, request: CompletionRequest) -> None:  # type: ignore[override]
        super().add_request(request_id, request.max_tokens)

    def step(self) -> list[Finished]:
        time.sleep(0.01)
        self.together = len(self.left)
        return super().step()

    def finished(self, request_id: str) -> Finished:
        completion = Completion(
            token_ids=(self.together,),
            logprobs=(0.0,),
            finish_reason=FinishReason.STOP,
            versions=((0, 0),),
        )
        return replace(super().finished(request_id), output=completion)


async def ask(worker: RemotePolicy, tokens: int, *, pause: float = 0.0) -> Completion:
    completion = await worker.complete(
        (1, 2), max_tokens=tokens, temperature=1.0, stop_token_ids=(), seed=1
    )
    await asyncio.sleep(pause)
    return completion


@pytest.fixture
def workers_thread() -> Iterator[EngineThread]:
    thread = EngineThread(ForWorkers)
    yield thread
    thread.stop()


def test_workers_are_answered_and_told_of_refusals(workers_thread: EngineThread) -> None:
    async def scenario() -> None:
        first, second = (RemotePolicy(workers_thread.address, name) for name in ("a", "b"))
        asked = [asyncio.ensure_future(ask(worker, 20)) for worker in (first, second)]
        with pytest.raises(RuntimeError, match="ValueError: an empty prompt"):
            await ask(first, 0)
        answers = [await one for one in asked]
        # The first to end had the other one beside it.
        assert (2,) in [answer.token_ids for answer in answers]
        assert all(0.2 <= answer.seconds < 2.0 for answer in answers)
        first.close()
        second.close()

    asyncio.run(asyncio.wait_for(scenario(), 30.0))


def test_what_a_worker_gives_up_leaves_the_engine(workers_thread: EngineThread) -> None:
    async def scenario() -> None:
        gone, stays = (RemotePolicy(workers_thread.address, name) for name in ("a", "b"))
        asked = [asyncio.ensure_future(ask(gone, 10**9)) for _ in range(3)]
        stays_on = asyncio.ensure_future(ask(stays, 50))
        while len(await workers_thread.call(lambda engine: engine.left)) < 4:
            await asyncio.sleep(0.01)
        asked[0].cancel()
        while len(await workers_thread.call(lambda engine: engine.left)) > 3:
            await asyncio.sleep(0.01)
        assert await workers_thread.call(lambda engine: engine.aborted) == ["a-1"]
        workers_thread.forget("a")
        workers_thread.forget("never heard of")
        aborted = await workers_thread.call(lambda engine: engine.aborted)
        assert sorted(aborted) == ["a-1", "a-2", "a-3"]
        assert (await stays_on).token_ids == (1,)
        for one in asked:
            one.cancel()
        gone.close()
        stays.close()

    asyncio.run(asyncio.wait_for(scenario(), 30.0))


def _steps_of_turns(pause: float) -> int:
    """Steps in which four episodes play 30 turns of two tokens, beside a fifth one."""
    thread = EngineThread(ForWorkers)

    async def episode(worker: RemotePolicy, lag: float) -> None:
        await asyncio.sleep(lag)
        for _ in range(30):
            await ask(worker, 2, pause=pause)

    async def scenario() -> None:
        worker = RemotePolicy(thread.address, "a")
        await asyncio.gather(*(episode(worker, lag) for lag in (0.0, 0.0, 0.011, 0.011)))
        worker.close()

    asyncio.run(asyncio.wait_for(scenario(), 60.0))
    steps, _ = thread.steps()
    thread.stop()
    return steps


def test_the_engine_waits_for_next_turns_that_come_at_once() -> None:
    # 2 ms are less than a step, so two of four wait for the other two: 30 turns take 60 steps, and
    # a few more at the ends. Else each turn would miss one step: 90.
    assert 60 <= _steps_of_turns(0.002) < 75


def test_the_engine_does_not_wait_for_slow_environments() -> None:
    begin = time.monotonic()
    _steps_of_turns(0.030)
    # A turn takes 20 ms in the engine, 30 outside, and up to 10 until the next step begins.
    assert time.monotonic() - begin < 30 * 0.075
