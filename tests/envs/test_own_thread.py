import asyncio
import threading
import time
from typing import Any

import pytest

from envs.own_thread import CallThread, HungCall, TimeLimit, has_hung, open_env
from tests.builders.faulty_environments import Stairs

LIMIT = TimeLimit(seconds=1.0, setting="limit.seconds")


class Home(Stairs):
    """Does what a test asks for in one call, and notes the thread of all of them."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.threads = {threading.get_ident()}
        self.act("make")

    def act(self, call: str) -> None:
        self.threads.add(threading.get_ident())
        if self.fault == f"{call} hangs":
            time.sleep(100)
        if self.fault == f"{call} raises":
            raise KeyError("goal")
        if self.fault == f"{call} asks":
            asyncio.run(asyncio.sleep(0))

    def tasks(self, split: str) -> Any:
        self.act("tasks")
        return super().tasks(split)

    def reset(self, **settings: Any) -> Any:
        self.act("reset")
        return super().reset(**settings)


def home(fault: str) -> Any:
    return open_env(f"{__name__}:Home", {"fault": fault}, LIMIT)


def test_all_calls_are_made_in_one_thread_of_its_own() -> None:
    env = home("")
    task = env.tasks("train")[0]
    assert env.reset(seed=task.seed, options={"task": task})[0].startswith("Your task is to")
    twin = env.clone()
    assert twin.step("climb")[0] != env.step("rest")[0], "a clone plays on its own"
    (thread,) = env._env.threads | twin._env.threads
    assert thread != threading.get_ident()
    env.close()


@pytest.mark.parametrize("call", ["make", "tasks"])
def test_a_constructor_and_tasks_that_raise_are_named(call: str) -> None:
    with pytest.raises(ValueError, match=r"its (constructor|tasks\('train'\)) raised KeyError"):
        home(f"{call} raises").tasks("train")


@pytest.mark.parametrize("call", ["make", "tasks", "reset"])
def test_each_call_may_run_a_loop_of_its_own(call: str) -> None:
    async def cell() -> None:
        env = home(f"{call} asks")
        task = env.tasks("train")[0]
        env.reset(seed=task.seed, options={"task": task})

    asyncio.run(cell())


@pytest.mark.parametrize("call", ["make", "tasks"])
def test_a_call_that_hangs_is_named_with_its_setting_and_place(call: str) -> None:
    started = time.monotonic()
    with pytest.raises(HungCall) as hung:
        home(f"{call} hangs").tasks("train")
    assert time.monotonic() - started < 5
    for part in ("1 seconds", "(limit.seconds)", "time.sleep(100)", "Home"):
        assert part in str(hung.value)
    assert {"make": "its constructor", "tasks": "its tasks('train')"}[call] in str(hung.value)


def test_after_a_hang_every_call_fails_at_once() -> None:
    env = home("reset hangs")
    assert not has_hung(env)
    for _ in range(3):
        with pytest.raises(HungCall, match="its reset had not come back"):
            env.reset(options={"task": None})
    assert has_hung(env)


def test_a_thread_ends_with_its_owner() -> None:
    thread = CallThread("to end")
    assert thread.call("a call", threading.current_thread, seconds=5).name == "to end"
    inner = thread._thread
    del thread
    inner.join(5)
    assert not inner.is_alive()
