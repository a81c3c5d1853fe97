"""The served policy in its process, and its client in a worker's process.

Neither class imports Ray: `rollouts.workers.pool` starts the actor, and hands it to the clients.
"""

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from rollouts.serving.batching import Answer, CompletionRequest, Exchange, PolicyClient
from rollouts.serving.served_policy import ServedPolicy
from rollouts.serving.statistics import EngineStatistics
from rollouts.settings import ServingSettings


class RemotePolicy(PolicyClient):
    """The `Policy` in the policy actor's process, as a worker's process sees it."""

    def __init__(self, actor: Any, name: str) -> None:
        """Talk to `actor` under a `name` that no other client has."""
        super().__init__()
        self._actor = actor
        self._name = name

    def move(self, actor: Any, name: str) -> None:
        """Talk to another actor under a new name, and send it all waiting requests, in order."""
        self._actor, self._name = actor, name
        self.send_again()

    def send(self, requests: Sequence[CompletionRequest]) -> Awaitable[list[Answer]]:
        answers: Awaitable[list[Answer]] = self._actor.exchange.remote(self._name, requests)
        return answers

    def send_cancel(self, number: int) -> None:
        self._actor.cancel.remote(self._name, number)


class PolicyActor(ServedPolicy):
    """The served policy in its own process; the workers ask it for many completions at a time."""

    def __init__(self, model_folder: Path, settings: ServingSettings, *, version: int) -> None:
        """Start the engine (see `ServedPolicy`); `check_health` raises the error of a start."""
        # Ray hands on the error of a call as it is, but of a constructor's only the text.
        self._failed_start: Exception | None = None
        try:
            super().__init__(model_folder, settings, version=version)
        except Exception as error:
            self._failed_start = error
        self._exchange = Exchange(self)

    async def check_health(self) -> None:
        """Raise the error that stopped the start of the engine, or that killed it later."""
        if self._failed_start is not None:
            raise self._failed_start
        await super().check_health()

    async def until_dead(self) -> None:
        """Raise the error of a failed start, or wait as `ServedPolicy.until_dead`."""
        await self.check_health()
        await super().until_dead()

    async def steps(self) -> tuple[int, bool]:
        """Return the heartbeat (see `ServedPolicy.steps`); an engine that never started is idle."""
        return (0, False) if self._failed_start is not None else await super().steps()

    async def statistics(self) -> EngineStatistics:
        """Return the engine's totals (see `ServedPolicy.statistics`)."""
        return EngineStatistics() if self._failed_start is not None else await super().statistics()

    async def shutdown(self) -> None:
        """End the engine, if it has started."""
        if self._failed_start is None:
            await super().shutdown()

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        """Take requests and return answers (see `Exchange.exchange`)."""
        return await self._exchange.exchange(client, requests)

    async def cancel(self, client: str, number: int) -> None:
        """Cancel a request (see `Exchange.cancel`)."""
        self._exchange.cancel(client, number)

    async def forget(self, client: str) -> None:
        """Stop the requests of a client that is gone (see `Exchange.forget`)."""
        self._exchange.forget(client)
