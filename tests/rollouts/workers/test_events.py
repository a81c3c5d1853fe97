import threading
import time
from concurrent.futures import Future
from itertools import pairwise

from rollouts.workers.events import EventThread


def test_events_run_in_order_in_one_thread_that_outlives_errors() -> None:
    seen: list[tuple[int, int]] = []
    errors: list[BaseException] = []
    done: Future[None] = Future()

    def fail() -> None:
        raise KeyError("lost")

    thread = EventThread(lambda: None, errors.append, seconds=60.0)
    thread.post(lambda: seen.append((0, threading.get_ident())))
    assert not seen, "it has not started"
    thread.start()
    thread.post(fail)
    thread.post(lambda: seen.append((1, threading.get_ident())))
    thread.post(lambda: done.set_result(None))
    done.result(timeout=5)
    thread.stop()
    assert [number for number, _ in seen] == [0, 1]
    (ident,) = {ident for _, ident in seen}
    assert ident != threading.get_ident()
    assert [type(error) for error in errors] == [KeyError]


def test_it_looks_at_regular_times_also_if_nothing_or_very_much_happens() -> None:
    looks: list[float] = []
    thread = EventThread(lambda: looks.append(time.monotonic()), lambda error: None, seconds=0.01)
    thread.start()

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 5
        while len(looks) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    wait_for(3)

    def again() -> None:
        time.sleep(0.001)
        thread.post(again)

    thread.post(again)
    wait_for(len(looks) + 3)
    thread.stop()
    assert all(later - earlier >= 0.009 for earlier, later in pairwise(looks))


def test_one_that_never_started_can_be_stopped() -> None:
    EventThread(lambda: None, lambda error: None, seconds=60.0).stop()
