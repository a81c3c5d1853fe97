"""Where an engine takes the workers' requests: a socket that the engine's own thread reads.

A call of Ray's would cross four threads of the engine's process, each of which has to wait for
Python's lock (the GIL) while the engine holds it. The engine's thread reads this socket itself,
between two steps, so a request costs it some tens of microseconds.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import zmq

from rollouts.serving.messages import Address, Answer, ClientMessage, decode_message, encode


class RequestServer:
    """The engine's side of the sockets. One thread uses it, and any thread may `wake` that one."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Open a free port.

        Args:
            host: the address of this machine that workers reach; by default, those on it.
        """
        sockets: Any = zmq.Context.instance()
        self._socket = sockets.socket(zmq.ROUTER)
        # Without limits: a message over the limit would be dropped, and an episode would hang.
        self._socket.set_hwm(0)
        self._socket.linger = 0
        key, self._socket.curve_secretkey = zmq.curve_keypair()
        self._socket.curve_server = True
        port = self._socket.bind_to_random_port(f"tcp://{host}")
        self.address = Address(f"tcp://{host}:{port}", key)
        """Where workers send their requests."""
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._woken, zmq.POLLIN)

    def wake(self) -> None:
        """Let `wait` return; for other threads."""
        # If the buffer is full, the thread will find enough to wake up by; or it has ended.
        with suppress(OSError):
            self._waker.send(b"x")

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a message or `wake`, at most so long; None waits as long as it takes."""
        # Half a millisecond would be cut to none.
        timeout = None if seconds is None else max(1, round(1000 * seconds))
        for ready, _ in self._poller.poll(timeout):
            if ready == self._woken.fileno():
                self._woken.recv(4096)

    def receive(self) -> list[tuple[bytes, ClientMessage]]:
        """Return the messages that have arrived, each with the name of its client."""
        messages: list[tuple[bytes, ClientMessage]] = []
        while True:
            try:
                client, data = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return messages
            messages.append((client, decode_message(data)))

    def send(self, client: bytes, answers: Sequence[Answer]) -> None:
        """Send answers; a client that is gone is passed over."""
        self._socket.send_multipart([client, encode(answers)])

    def close(self) -> None:
        """Close the port. Answers that are under way may be lost."""
        self._socket.close(linger=0)
        self._woken.close()
        self._waker.close()
