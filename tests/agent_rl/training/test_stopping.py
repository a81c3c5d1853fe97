import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from agent_rl.training.stopping import raise_if_stopped, stopped_by, stops_on_signals, whole_work
from tests.builders.paths import ROOT


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def end_of(work: Callable[[], None]) -> object:
    """The exit status of work that a signal stops."""
    with pytest.raises(SystemExit) as end, stops_on_signals():
        work()
    return end.value.code


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (1, "SIGHUP")])
def test_a_signal_unwinds_what_is_open_and_is_one_line(
    number: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, closed = signal.getsignal(number), []

    def work() -> None:
        try:
            send(number)
        finally:
            closed.append(stopped_by())

    assert (end_of(work), closed) == (128 + number, [name])
    line = f"stopped by {name}; the same command goes on or starts again"
    assert capsys.readouterr().out == f"{line}\n"
    assert signal.getsignal(number) is before
    assert stopped_by() == ""


def test_ctrl_c_stays_a_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), stops_on_signals():
        send(signal.SIGINT)


def test_work_that_has_to_be_whole_ends_first() -> None:
    done = []

    def work() -> None:
        with whole_work():
            with whole_work():
                send(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("after")

    assert end_of(work) == 143
    assert done == ["inner", "outer"]


def test_the_same_stop_may_be_sent_twice_and_saving_is_not_stopped_by_it() -> None:
    """As `timeout` does: to the process, and to its group."""
    done = []

    def work() -> None:
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt:
            with whole_work():
                send(signal.SIGTERM)
                done.append("saved")
            raise

    assert end_of(work) == 143
    assert done == ["saved"]


@pytest.mark.process
def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """
import os, signal, time
from agent_rl.training.stopping import stops_on_signals, whole_work
with stops_on_signals(), whole_work():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=50, check=False)
    assert ended.returncode == -signal.SIGTERM


@pytest.mark.process
@pytest.mark.parametrize("then", ["", "stop_ray()"])
def test_ray_does_not_take_the_signal(then: str) -> None:
    code = f"""
import os, signal
from agent_rl.training.stopping import stops_on_signals
from rollouts.processes.ray_processes import start_ray, stop_ray
with stops_on_signals():
    start_ray()
    {then}
    os.kill(os.getpid(), signal.SIGTERM)
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(
        command, cwd=ROOT, timeout=100, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert ended.stdout == "stopped by SIGTERM; the same command goes on or starts again\n"


def test_errors_that_a_stop_causes_are_not_the_story() -> None:
    def die() -> None:
        with whole_work():
            send(signal.SIGTERM)
            raise RuntimeError("a process died of the same signal")

    def close_badly() -> None:
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise RuntimeError("closing failed") from error

    def be_wrong() -> None:
        with whole_work():
            send(signal.SIGTERM)
            raise ValueError("a typo")

    assert end_of(die) == end_of(close_badly) == 143
    with pytest.raises(ValueError, match="a typo"), stops_on_signals():
        be_wrong()


def test_a_signal_that_a_callback_swallowed_is_raised_again() -> None:
    done = []

    def work() -> None:
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt:
            done.append("swallowed")
        raise_if_stopped()

    assert end_of(work) == 143
    assert done == ["swallowed"]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops_on_signals():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_is_installed_in_a_notebook_or_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    def look() -> None:
        with stops_on_signals(), whole_work():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    look()
    assert seen == [signal.getsignal(signal.SIGTERM)] * 2
