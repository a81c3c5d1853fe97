"""Lets a signal stop a command cleanly: at once, or after work that has to be whole.

    with stops_on_signals():
        play()                  # a signal raises KeyboardInterrupt here, so every `with` cleans up
        with whole_work():      # here it is only noted, and raises at the end of the block
            learn()

KeyboardInterrupt, because libraries let it through: Ray ignores other exceptions of handlers.
Light to import.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_STOP_SECONDS = 1.0
"""`timeout` sends its signal twice, to the process and to its group: that is one stop."""


class _Stop:
    """What is known of a stop, while the handlers are installed."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal; 0 if there was none."""
        self.at = 0.0
        """Its time (monotonic)."""
        self.holds = 0
        """How many `whole_work` blocks are open."""
        self.raised = False
        """Whether KeyboardInterrupt was raised for it."""
        self.told = False
        """Whether a line was printed about it."""


_stop: _Stop | None = None


@contextmanager
def stops_on_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt within this context.

    A second signal ends the process at once. The handlers of before come back at the end. Nothing
    is installed in another thread than the main one, in a notebook, or within another such context;
    a signal that is ignored, as under `nohup`, stays ignored.

    Raises:
        SystemExit: with status 128 + the signal's number, if one has stopped the work. For SIGINT,
            a KeyboardInterrupt passes as it is.
    """
    global _stop
    in_main_thread = threading.current_thread() is threading.main_thread()
    # Interactive sessions have a prompt, notebooks too. There, an interrupt ends a cell only.
    if _stop is not None or not in_main_thread or hasattr(sys, "ps1"):
        yield
        return
    stop = _stop = _Stop()
    before = {}
    for number in _SIGNALS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, _on_signal)
    try:
        yield
    except BaseException as error:
        if not stop.number or not _has_interrupt(error):
            raise
        if not stop.told:
            say_stopped(f"stopped by {stopped_by()}; the same command goes on or starts again")
        if stop.number == signal.SIGINT and isinstance(error, KeyboardInterrupt):
            raise
        raise SystemExit(128 + stop.number) from None
    finally:
        _stop = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def whole_work() -> Iterator[None]:
    """Hold a signal back until the end of the block, which raises KeyboardInterrupt then.

    Without `stops_on_signals`, it does nothing.
    """
    stop = _stop
    if stop is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    stop.holds += 1
    try:
        yield
    except (ValueError, FloatingPointError):
        raise  # a user can mend these, stop or no stop
    except Exception as error:
        # The signal may have ended the processes of this work, too: their deaths are its effects.
        if stop.number and not stop.raised:
            stop.raised = True
            raise KeyboardInterrupt from error
        raise
    finally:
        stop.holds -= 1
    if stop.number and not stop.raised and not stop.holds:
        stop.raised = True
        raise KeyboardInterrupt


def raise_if_stopped() -> None:
    """Raise KeyboardInterrupt if a signal came; one that was raised in a callback may be lost."""
    if _stop is not None and _stop.number:
        _stop.raised = True
        raise KeyboardInterrupt


def stopped_by() -> str:
    """The name of the signal that stops the work, such as SIGTERM; empty if there was none."""
    return signal.Signals(_stop.number).name if _stop is not None and _stop.number else ""


def say_stopped(text: str) -> None:
    """Print the one line on how the work was stopped. The terminal may be gone."""
    from agent_rl.display import say

    with suppress(OSError):
        say(text)
    if _stop is not None:
        _stop.told = True


def _on_signal(number: int, frame: object) -> None:
    stop = _stop
    if stop is None:
        return
    if not stop.number:
        stop.number, stop.at = number, time.monotonic()
        if not stop.holds:
            stop.raised = True
            raise KeyboardInterrupt
    elif time.monotonic() - stop.at > _SAME_STOP_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _has_interrupt(error: BaseException | None) -> bool:
    """Whether an error is a KeyboardInterrupt, or came while one was handled."""
    if error is None:
        return False
    if isinstance(error, KeyboardInterrupt):
        return True
    return _has_interrupt(error.__cause__) or _has_interrupt(error.__context__)
