"""The engine's side of the sockets, with plain clients."""

import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from rollouts.serving.messages import ClientMessage, decode_answers, encode
from rollouts.serving.request_server import RequestServer


@pytest.fixture
def server() -> Iterator[RequestServer]:
    server = RequestServer()
    yield server
    server.close()


def _client(server: RequestServer, name: str, key: bytes | None = None) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.identity, socket.linger = name.encode(), 0
    socket.curve_serverkey = server.address.key if key is None else key
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.connect(server.address.endpoint)
    return socket


def test_messages_come_with_their_clients_and_answers_go_to_them(server: RequestServer) -> None:
    with _client(server, "a") as a, _client(server, "b") as b:
        a.send(encode(ClientMessage(cancelled=[1])))
        b.send(encode(ClientMessage(cancelled=[2])))
        received: dict[bytes, ClientMessage] = {}
        while len(received) < 2:
            server.wait(5.0)
            received |= dict(server.receive())
        assert {name: list(one.cancelled) for name, one in received.items()} == {
            b"a": [1],
            b"b": [2],
        }
        server.send(b"b", [(2, "no")])
        server.send(b"gone", [(9, "nobody reads this")])
        assert decode_answers(b.recv()) == [(2, "no")]
        assert not a.poll(50)
    assert server.receive() == []


def test_who_does_not_know_the_key_is_not_heard(server: RequestServer) -> None:
    another_key, _ = zmq.curve_keypair()
    with _client(server, "stranger", another_key) as stranger:
        stranger.send(encode(ClientMessage(cancelled=[1])))
        server.wait(0.3)
        assert server.receive() == []


def test_waiting_ends_with_a_wake_from_another_thread(server: RequestServer) -> None:
    threading.Timer(0.1, server.wake).start()
    begin = time.monotonic()
    server.wait(10.0)
    assert 0.05 < time.monotonic() - begin < 5.0
    # The wake is used up.
    begin = time.monotonic()
    server.wait(0.1)
    assert time.monotonic() - begin > 0.05


def test_many_wakes_do_not_block(server: RequestServer) -> None:
    for _ in range(5_000):
        server.wake()


def test_addresses_differ() -> None:
    first, second = RequestServer(), RequestServer()
    assert first.address.endpoint != second.address.endpoint
    assert first.address.key != second.address.key
    first.close()
    second.close()
