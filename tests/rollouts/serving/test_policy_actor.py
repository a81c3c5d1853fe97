import asyncio
import pickle
from collections.abc import Sequence
from functools import partial

import pytest

from rollouts.processes.ray_processes import end_processes, process_of, start_ray, stop_ray
from rollouts.serving.batching import Answer, CompletionRequest
from rollouts.serving.engine_thread import EngineDead
from rollouts.serving.policy_actor import RemotePolicy
from rollouts.types import Completion, FinishReason


class Remote:
    """A method of an actor: called with `.remote`, and recorded."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def _answer(self, requests: Sequence[CompletionRequest]) -> list[Answer]:
        completion = Completion(
            token_ids=(7,), logprobs=(-0.5,), finish_reason=FinishReason.STOP, versions=((2, 0),)
        )
        return [(request.number, completion) for request in requests]

    def remote(self, *arguments: object) -> object:
        self.calls.append(arguments)
        requests = arguments[1]
        return self._answer(requests) if isinstance(requests, list) else None


class Actor:
    def __init__(self) -> None:
        self.exchange, self.cancel = Remote(), Remote()


def test_a_client_asks_the_actor_under_its_name() -> None:
    actor = Actor()
    client = RemotePolicy(actor, "worker-1")

    async def ask() -> Completion:
        return await client.complete(
            (1, 2), max_tokens=3, temperature=0.5, stop_token_ids=(0,), seed=9
        )

    completion = asyncio.run(ask())
    assert (completion.token_ids, completion.policy_version) == ((7,), 2)
    request = CompletionRequest(
        number=1, token_ids=(1, 2), max_tokens=3, temperature=0.5, stop_token_ids=(0,), seed=9
    )
    assert actor.exchange.calls == [("worker-1", [request])]
    client.send_cancel(1)
    assert actor.cancel.calls == [("worker-1", 1)]


def test_a_client_moves_to_another_actor_under_a_new_name() -> None:
    class Gone(Exception):
        """What Ray wraps around an actor's error."""

        cause = EngineDead("the serving engine died: no memory")

    class DeadRemote(Remote):
        async def _answer(self, requests: Sequence[CompletionRequest]) -> list[Answer]:
            raise Gone("a traceback")

    dead, alive = Actor(), Actor()
    dead.exchange = DeadRemote()

    async def ask(client: RemotePolicy) -> Completion:
        asked = asyncio.ensure_future(
            client.complete((1, 2), max_tokens=3, temperature=0.5, stop_token_ids=(0,), seed=9)
        )
        await asyncio.sleep(0.01)
        client.move(alive, "worker-1b")
        return await asked

    assert asyncio.run(ask(RemotePolicy(dead, "worker-1"))).token_ids == (7,)
    ((name, sent),) = alive.exchange.calls
    assert (name, sent) == ("worker-1b", dead.exchange.calls[0][1])


def test_a_client_travels_to_the_worker_that_uses_it() -> None:
    client = RemotePolicy("the actor", "worker-1")
    copy = pickle.loads(pickle.dumps(client))
    assert (copy._actor, copy._name) == ("the actor", "worker-1")


class Ending:
    """An actor's part without an engine: one exchange that its engine's death ends, or a hang."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        if self._hangs:
            await asyncio.sleep(1000.0)
        raise EngineDead("the serving engine died: no memory")

    async def cancel(self, client: str, number: int) -> None:
        pass


class Echo:
    """Answers with the seed of the request."""

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        return [
            (
                request.number,
                Completion(
                    token_ids=(request.seed or 0,),
                    logprobs=(0.0,),
                    finish_reason=FinishReason.STOP,
                    versions=((0, 0),),
                ),
            )
            for request in requests
        ]


@pytest.mark.process
def test_a_client_outlives_real_actors_that_die_hang_and_are_killed() -> None:
    start_ray()
    try:
        start = partial(process_of, max_concurrency=8, environment={})
        dead, hanging, alive = start(Ending)(), start(Ending)(hangs=True), start(Echo)()

        async def ask(client: RemotePolicy, seed: int) -> Completion:
            return await client.complete(
                (1, 2), max_tokens=3, temperature=0.5, stop_token_ids=(0,), seed=seed
            )

        async def scenario() -> None:
            client = RemotePolicy(dead, "worker-2")
            asked = [asyncio.ensure_future(ask(client, seed)) for seed in (5, 6)]
            while not client._lost:
                await asyncio.sleep(0.01)
            client.move(hanging, "worker-2b")
            await asyncio.sleep(0.5)
            assert not any(request.done() for request in asked)
            end_processes([hanging])
            while not client._lost:
                await asyncio.sleep(0.01)
            client.move(alive, "worker-2c")
            assert [(await request).token_ids for request in asked] == [(5,), (6,)]

        asyncio.run(asyncio.wait_for(scenario(), 60.0))
    finally:
        stop_ray()
