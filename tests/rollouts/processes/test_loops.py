import asyncio
import timeit

import pytest

from rollouts.processes.loops import no_loop, run


async def answer(text: str) -> str:
    await asyncio.sleep(0)
    return text


def test_a_loop_runs_within_a_loop_and_the_outer_one_goes_on() -> None:
    async def outer() -> list[str]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        said = [run(answer("first"))]
        with no_loop():
            said.append(asyncio.run(answer("second")))
        assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
        return [*said, await answer("third")]

    assert run(outer()) == ["first", "second", "third"]


def test_the_outer_loop_is_back_after_an_error() -> None:
    async def outer() -> str:
        with pytest.raises(ValueError, match="outside"), no_loop():
            raise ValueError("outside")
        return await answer("on")

    assert asyncio.run(outer()) == "on"


def test_the_programs_own_loop_stays_set() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert run(answer("x")) == "x"
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_hiding_the_loop_costs_next_to_nothing() -> None:
    calls = 10_000

    def call() -> None:
        with no_loop():
            pass

    async def measure() -> float:
        return min(timeit.repeat(call, number=calls, repeat=5)) / calls

    assert asyncio.run(measure()) < 20e-6
