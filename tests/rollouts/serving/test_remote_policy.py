"""A worker's client, with real sockets and an engine's side that the tests play."""

import asyncio
import pickle
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from rollouts.serving.messages import Answer, ClientMessage, CompletionRequest
from rollouts.serving.remote_policy import RemotePolicy
from rollouts.serving.request_server import RequestServer
from rollouts.types import Completion, FinishReason


class Engine(RequestServer):
    """An engine's side, for the loop of the client."""

    def __init__(self) -> None:
        super().__init__()
        self._received: list[tuple[bytes, ClientMessage]] = []

    async def next(self) -> tuple[bytes, ClientMessage]:
        """The next message; the loop goes on meanwhile."""
        while not self._received:
            self._received += self.receive()
            await asyncio.sleep(0.001)
        return self._received.pop(0)


@pytest.fixture
def server() -> Iterator[Engine]:
    server = Engine()
    yield server
    server.close()


def _run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20.0))


def _ask(client: RemotePolicy, number: int) -> "asyncio.Task[Completion]":
    asked = client.complete(
        (number,), max_tokens=1, temperature=0.5, stop_token_ids=(0,), seed=number * 10
    )
    return asyncio.ensure_future(asked)


def _answer(request: CompletionRequest) -> Answer:
    """The prompt (n,) is answered with the token n, and its seed as the version."""
    completion = Completion(
        token_ids=tuple(request.token_ids),
        logprobs=(-request.temperature,),
        finish_reason=FinishReason.STOP,
        versions=((request.seed or 0, 0),),
    )
    return request.number, completion


async def _requests(server: Engine, count: int) -> list[CompletionRequest]:
    """The next requests, from one message or several."""
    requests: list[CompletionRequest] = []
    while len(requests) < count:
        _, message = await server.next()
        requests += message.requests
    return requests


def test_each_request_leaves_at_once_and_answers_come_together(server: Engine) -> None:
    async def scenario() -> None:
        client = RemotePolicy(server.address, "worker-1")
        asked = [_ask(client, n) for n in (1, 2, 3)]
        name, message = await server.next()
        first, second, third = [*message.requests, *await _requests(server, 2)]
        assert name == b"worker-1"
        assert second == CompletionRequest(
            number=2, token_ids=[2], max_tokens=1, temperature=0.5, stop_token_ids=[0], seed=20
        )
        assert message.away is None
        server.send(name, [_answer(third), _answer(first)])
        completion = await asked[2]
        assert (completion.token_ids, completion.policy_version) == ((3,), 30)
        assert (await asked[0]).token_ids == (1,)
        later = [_ask(client, n) for n in (4, 5)]
        _, message = await server.next()
        (fourth,) = message.requests
        assert list(fourth.token_ids) == [4]
        assert message.away is not None
        assert 0 < message.away < 5
        (fifth,) = await _requests(server, 1)
        server.send(name, [_answer(one) for one in (second, fourth, fifth)])
        assert [(await one).token_ids for one in (asked[1], *later)] == [(2,), (4,), (5,)]
        client.close()

    _run(scenario())


def test_an_error_is_the_answer_to_its_own_request_only(server: Engine) -> None:
    async def scenario() -> None:
        client = RemotePolicy(server.address, "worker-1")
        asked = [_ask(client, n) for n in (1, 2)]
        _, second = await _requests(server, 2)
        server.send(b"worker-1", [(1, "ValueError: unlucky"), _answer(second)])
        with pytest.raises(RuntimeError, match="ValueError: unlucky"):
            await asked[0]
        assert (await asked[1]).token_ids == (2,)
        client.close()

    _run(scenario())


def test_a_cancelled_request_is_told_and_its_late_answer_ignored(server: Engine) -> None:
    async def scenario() -> None:
        client = RemotePolicy(server.address, "worker-1")
        asked = [_ask(client, n) for n in (1, 2)]
        requests = await _requests(server, 2)
        asked[0].cancel()
        name, cancelling = await server.next()
        assert (list(cancelling.cancelled), list(cancelling.requests)) == ([1], [])
        server.send(name, [_answer(one) for one in requests])
        assert (await asked[1]).token_ids == (2,)
        assert asked[0].cancelled()
        client.close()

    _run(scenario())


def test_a_request_that_is_cancelled_before_it_is_sent_is_never_sent(server: Engine) -> None:
    async def scenario() -> None:
        client = RemotePolicy(None, "worker-1")
        given_up, asked = _ask(client, 1), _ask(client, 2)
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.sleep(0.01)
        client.move(server.address, "worker-1")
        name, message = await server.next()
        assert ([one.number for one in message.requests], list(message.cancelled)) == ([2], [])
        server.send(name, [_answer(one) for one in message.requests])
        assert (await asked).token_ids == (2,)
        client.close()

    _run(scenario())


def test_requests_wait_until_the_engine_has_an_address(server: Engine) -> None:
    async def scenario() -> None:
        client = RemotePolicy(None, "worker-1")
        asked = [_ask(client, 1), _ask(client, 2)]
        await asyncio.sleep(0.05)
        asked.append(_ask(client, 3))
        client.move(server.address, "worker-1")
        requests = await _requests(server, 3)
        server.send(b"worker-1", [_answer(one) for one in requests])
        assert [(await one).token_ids for one in asked] == [(1,), (2,), (3,)]
        client.close()

    _run(scenario())


def test_a_client_moves_with_what_it_waits_for(server: Engine) -> None:
    async def scenario() -> None:
        client = RemotePolicy(server.address, "worker-1")
        asked = [_ask(client, n) for n in (1, 2, 3)]
        first, second, third = await _requests(server, 3)
        server.send(b"worker-1", [_answer(second)])
        assert (await asked[1]).token_ids == (2,)
        new = Engine()
        client.move(new.address, "worker-1b")
        asked.append(_ask(client, 4))
        name, again = await new.next()
        assert name == b"worker-1b"
        assert list(again.requests) == [first, third]
        assert again.away is None
        # The former engine was only slow; nobody waits for its answer now.
        server.send(b"worker-1", [(1, "too late")])
        (fourth,) = await _requests(new, 1)
        new.send(name, [_answer(one) for one in (first, third, fourth)])
        answers = [await one for one in asked]
        assert [one.token_ids for one in answers] == [(1,), (2,), (3,), (4,)]
        assert [one.policy_version for one in answers] == [10, 20, 30, 40]
        client.move(new.address, "worker-1b")  # nothing changes
        last = _ask(client, 5)
        name, message = await new.next()
        new.send(name, [_answer(one) for one in message.requests])
        assert (await last).token_ids == (5,)
        client.close()
        new.close()

    _run(scenario())


def test_a_client_travels_to_the_worker_that_uses_it(server: Engine) -> None:
    client = pickle.loads(pickle.dumps(RemotePolicy(server.address, "worker-1")))

    async def scenario() -> None:
        asked = _ask(client, 1)
        name, message = await server.next()
        server.send(name, [_answer(one) for one in message.requests])
        assert (await asked).token_ids == (1,)
        client.close()

    _run(scenario())
