"""What an engine's thread keeps about its clients: answers to send, and how long they are away."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from rollouts.episode import describe
from rollouts.serving.messages import Answer, ClientMessage
from rollouts.serving.request_server import RequestServer
from rollouts.types import Completion

_NUDGE = 0.1
"""How far a new measurement moves the median time away, as a share of it."""
_TRANSPORT = 0.001
"""Seconds that two messages take, which a client cannot measure."""


class Clients:
    """The clients of an engine, which are workers; only the engine's thread uses it."""

    def __init__(self) -> None:
        """Start with none."""
        self._answers: dict[bytes, list[Answer]] = defaultdict(list)
        """Answers that have not been sent, by the name of the client."""
        self._forgotten: set[bytes] = set()
        """Names of clients that are gone. Their last messages may still arrive."""
        self.away = 0.0
        """How long it takes from answers to the next request, in seconds: about the median.
        The mean would say little: an episode takes much longer to begin than to go on."""
        self.answered = 0
        """Completions that were sent since the thread last set it to 0."""
        self.came_back = 0
        """Requests that came since the last completion was sent."""

    def note(self, client: bytes, message: ClientMessage) -> bool:
        """Note that a message came; return whether its client is known."""
        if client in self._forgotten:
            return False
        self.came_back += len(message.requests)
        if message.away is not None:
            away = message.away + _TRANSPORT
            # As many measurements lie above the median as below it, so it comes to rest there.
            if not self.away:
                self.away = away
            elif away > self.away:
                self.away *= 1.0 + _NUDGE
            else:
                self.away *= 1.0 - _NUDGE
        return True

    def reply(self, client: bytes, number: int, output: Any, seconds: float) -> None:
        """Keep an answer for `send`.

        Args:
            output: a completion or an error. A dead engine's answer is none: the client keeps its
                request for another one.
            seconds: that the engine worked on it.
        """
        if isinstance(output, Completion):
            answer: Completion | str = replace(output, seconds=seconds)
            self.answered += 1
        else:
            answer = describe(output)
        if client not in self._forgotten:
            self._answers[client].append((number, answer))

    def send(self, server: RequestServer) -> None:
        """Send all answers, in one message to each client."""
        for client, answers in self._answers.items():
            server.send(client, answers)
            self.came_back = 0
        self._answers.clear()

    def forget(self, client: bytes) -> None:
        """Send nothing more to a client that is gone."""
        self._forgotten.add(client)
        self._answers.pop(client, None)
