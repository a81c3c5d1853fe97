"""A thread that owns state: other threads post events to it, and it handles one after the other."""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

Event = Callable[[], object]


class EventThread:
    """Runs events in the order in which they were posted, and a look at regular times.

    If an event or a look raises, `on_error` is called with the error, and the thread goes on: what
    waits for it has to learn of the error, and later events may come.
    """

    def __init__(
        self, look: Event, on_error: Callable[[BaseException], None], *, seconds: float
    ) -> None:
        """Make the thread; `start` starts it.

        Args:
            look: is called about every `seconds`, also if no event comes.
        """
        self._look, self._on_error, self._seconds = look, on_error, seconds
        self._events = SimpleQueue[Event | None]()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def start(self) -> None:
        """Start with the events that were posted before."""
        self._thread.start()

    def post(self, event: Event) -> None:
        """Let the thread call `event` soon. Any thread may post; after `stop` nothing happens."""
        self._events.put(event)

    def stop(self) -> None:
        """End the thread after the event that it is in."""
        self._events.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        next_look = time.monotonic() + self._seconds
        while True:
            event: Event | None = self._look
            if (left := next_look - time.monotonic()) > 0:
                try:
                    event = self._events.get(timeout=left)
                except Empty:
                    continue
            else:
                next_look = time.monotonic() + self._seconds
            if event is None:
                return
            try:
                event()
            except BaseException as error:
                self._on_error(error)
