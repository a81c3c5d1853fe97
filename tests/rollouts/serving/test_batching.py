import asyncio
import pickle
from collections.abc import Awaitable, Sequence

import pytest

from rollouts.serving.batching import Answer, CompletionRequest, Exchange, PolicyClient
from rollouts.serving.engine_thread import EngineDead
from rollouts.types import Completion, FinishReason


class GatedPolicy:
    """Answers a prompt (n,) with the token n, when `gates[n]` is open; n = 13 fails.

    After `die`, all requests raise `EngineDead`.
    """

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = {}
        self.cancelled: list[int] = []
        self.dead = False

    def die(self) -> None:
        self.dead = True
        for gate in self.gates.values():
            gate.set()

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        (number,) = token_ids
        try:
            await self.gates.setdefault(number, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if self.dead:
            raise EngineDead("the serving engine died: no memory")
        if number == 13:
            raise ValueError("unlucky")
        return Completion(
            token_ids=(number,),
            logprobs=(-temperature,),
            finish_reason=FinishReason.STOP,
            versions=((seed or 0, 0),),
        )


class NearClient(PolicyClient):
    """Reaches its exchange by a function call, and counts the messages."""

    def __init__(self, exchange: Exchange, name: str = "near") -> None:
        super().__init__()
        self.exchange, self.name = exchange, name
        self.messages: list[list[int]] = []
        self.gone = False

    def send(self, requests: Sequence[CompletionRequest]) -> Awaitable[list[Answer]]:
        self.messages.append([request.number for request in requests])
        if self.gone:
            raise ConnectionError("nobody there")
        return self.exchange.exchange(self.name, requests)

    def send_cancel(self, number: int) -> None:
        self.exchange.cancel(self.name, number)

    def ask(self, number: int) -> asyncio.Task[Completion]:
        asked = self.complete(
            (number,), max_tokens=1, temperature=0.5, stop_token_ids=(), seed=number * 10
        )
        return asyncio.ensure_future(asked)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_requests_that_come_up_together_travel_together_and_so_do_answers() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        client = NearClient(Exchange(policy))
        asked = [client.ask(n) for n in (1, 2, 3)]
        await settle()
        assert client.messages == [[1, 2, 3]]
        policy.gates[1].set()
        policy.gates[3].set()
        await settle()
        assert [a.done() for a in asked] == [True, False, True]
        assert (asked[2].result().token_ids, asked[2].result().logprobs) == ((3,), (-0.5,))
        assert asked[2].result().policy_version == 30
        assert client.messages == [[1, 2, 3], []]  # the second waits for the missing answer
        later = client.ask(4)
        await settle()
        policy.gates[4].set()
        policy.gates[2].set()
        await settle()
        assert (asked[1].result().token_ids, later.result().token_ids) == ((2,), (4,))
        assert client.messages == [[1, 2, 3], [], [4]]

    asyncio.run(scenario())


def test_clients_get_their_own_answers() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        exchange = Exchange(policy)
        first, second = NearClient(exchange, "first"), NearClient(exchange, "second")
        asked = [first.ask(1), second.ask(2)]
        await settle()
        policy.gates[2].set()
        await settle()
        assert not asked[0].done()
        assert asked[1].result().token_ids == (2,)
        policy.gates[1].set()
        assert (await asked[0]).token_ids == (1,)

    asyncio.run(scenario())


def test_an_error_is_the_answer_to_its_own_request_only() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        client = NearClient(Exchange(policy))
        asked = [client.ask(13), client.ask(2)]
        await settle()
        policy.gates[13].set()
        policy.gates[2].set()
        with pytest.raises(RuntimeError, match="ValueError: unlucky"):
            await asked[0]
        assert (await asked[1]).token_ids == (2,)

    asyncio.run(scenario())


def test_a_cancelled_request_is_cancelled_at_the_policy_and_the_others_go_on() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        client = NearClient(Exchange(policy))
        asked = [client.ask(1), client.ask(2)]
        await settle()
        asked[0].cancel()
        await settle()
        assert policy.cancelled == [1]
        policy.gates[2].set()
        assert (await asked[1]).token_ids == (2,)

    asyncio.run(scenario())


def test_a_lone_cancelled_request_leaves_nothing_waiting() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        client = NearClient(Exchange(policy))
        asked = client.ask(1)
        await settle()
        asked.cancel()
        await settle()
        assert client.messages == [[1]]
        assert (
            len(asyncio.all_tasks()) == 1
        )  # this one: no message waits for an answer that cannot come

    asyncio.run(scenario())


def test_without_the_other_process_requests_wait_until_it_is_back() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        client = NearClient(Exchange(policy))
        client.gone = True
        asked = [client.ask(1), client.ask(2)]
        await settle()
        assert not any(one.done() for one in asked)
        client.gone = False
        client.send_again()
        await settle()
        for gate in policy.gates.values():
            gate.set()
        assert [(await one).token_ids for one in asked] == [(1,), (2,)]

    asyncio.run(scenario())


def test_a_dead_engine_answers_nothing_and_its_last_answers_arrive() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        exchange = Exchange(policy)
        client = NearClient(exchange)
        asked = [client.ask(1), client.ask(2)]
        await settle()
        policy.gates[1].set()
        await settle()
        policy.die()
        await settle()
        assert asked[0].result().token_ids == (1,)
        assert not asked[1].done(), "another engine may complete it"
        with pytest.raises(EngineDead):
            await exchange.exchange("another", [])

    asyncio.run(scenario())


def test_a_client_keeps_its_requests_for_another_exchange() -> None:
    async def scenario() -> None:
        old, new = GatedPolicy(), GatedPolicy()
        client = NearClient(Exchange(old))
        asked = [client.ask(n) for n in (1, 2, 3)]
        await settle()
        old.gates[2].set()
        await settle()
        old.die()
        await settle()
        later, given_up = client.ask(4), client.ask(5)
        await settle()
        given_up.cancel()
        await settle()
        assert [a.done() for a in (*asked, later)] == [False, True, False, False]
        assert client.messages == [[1, 2, 3], []]

        client.exchange, client.name = Exchange(new), "moved"
        client.send_again()
        await settle()
        assert client.messages[2:] == [[1, 3, 4]]
        new.die()  # and once more
        await settle()
        newest = GatedPolicy()
        client.exchange = Exchange(newest)
        client.send_again()
        await settle()
        for gate in newest.gates.values():
            gate.set()
        answers = [await a for a in (*asked, later)]
        assert [a.token_ids for a in answers] == [(1,), (2,), (3,), (4,)]
        assert [a.policy_version for a in answers] == [10, 20, 30, 40]  # the seeds

    asyncio.run(scenario())


def test_a_client_moves_away_from_an_exchange_that_hangs() -> None:
    async def scenario() -> None:
        old, new = GatedPolicy(), GatedPolicy()
        client = NearClient(Exchange(old))
        asked = client.ask(1)
        await settle()
        client.exchange = Exchange(new)
        client.send_again()
        await settle()
        assert client.messages == [[1], [1]]
        old.die()  # its late error says nothing about the new one
        await settle()
        assert not asked.done()
        later = client.ask(2)
        await settle()
        assert client.messages == [[1], [1], [2]]
        new.gates[1].set()
        new.gates[2].set()
        assert ((await asked).token_ids, (await later).token_ids) == ((1,), (2,))

    asyncio.run(scenario())


def test_a_forgotten_client_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        policy = GatedPolicy()
        exchange = Exchange(policy)
        gone, stays = NearClient(exchange, "gone"), NearClient(exchange, "stays")
        asked = [gone.ask(1), stays.ask(2)]
        await settle()
        exchange.forget("gone")
        exchange.forget("never heard of")
        await settle()
        assert policy.cancelled == [1]
        assert not asked[0].done()
        assert list(exchange._accounts) == ["stays"]
        policy.gates[2].set()
        assert (await asked[1]).token_ids == (2,)

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_before_it_begins_ends() -> None:
    async def scenario() -> None:
        exchange = Exchange(GatedPolicy())
        request = CompletionRequest(
            number=1, token_ids=(1,), max_tokens=1, temperature=1.0, stop_token_ids=(), seed=None
        )
        call = exchange.exchange("near", [request])
        step = asyncio.ensure_future(call)
        asyncio.get_running_loop().call_soon(exchange.cancel, "near", 1)
        assert await asyncio.wait_for(step, 1.0) == []

    asyncio.run(scenario())


def test_a_client_travels_to_the_process_that_uses_it() -> None:
    client = NearClient(Exchange(GatedPolicy()))
    assert pickle.loads(pickle.dumps(client)).name == "near"
