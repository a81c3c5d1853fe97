"""Workers at an engine's socket: their requests, what they give up, and waits for next turns."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from rollouts.serving.engine_thread import EngineThread
from rollouts.serving.remote_policy import RemotePolicy
from rollouts.types import Completion
from tests.builders.stepped_engines import ForWorkers


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
