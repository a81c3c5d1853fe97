import asyncio
import pickle
from collections.abc import Sequence

from rollouts.serving.batching import Answer, CompletionRequest
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


def test_a_client_travels_to_the_worker_that_uses_it() -> None:
    client = RemotePolicy("the actor", "worker-1")
    copy = pickle.loads(pickle.dumps(client))
    assert (copy._actor, copy._name) == ("the actor", "worker-1")
