"""Event loops within event loops: an environment or a notebook may run one of its own.

asyncio allows one running loop per thread. A worker plays its episodes in a loop, and a notebook
runs each cell in one. So `asyncio.run` would fail there, in an environment's step as in our own
functions. While a synchronous call lasts, nothing else of the outer loop can run in its thread, so
the thread may forget that loop until the call returns.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def no_loop() -> Iterator[None]:
    """Hide this thread's running loop during synchronous code; it takes about a microsecond.

    Nothing may be awaited within.
    """
    loop = asyncio.events._get_running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    # Newer versions of Python refuse to enter a task, in whatever loop, while one is entered.
    if task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio.events._set_running_loop(None)
    try:
        yield
    finally:
        asyncio.events._set_running_loop(loop)
        if task is not None:
            asyncio.tasks._enter_task(loop, task)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, as `asyncio.run`, also where a loop runs already."""
    # A loop factory, because `asyncio.run` would also unset the loop that the program has set.
    with no_loop(), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)
