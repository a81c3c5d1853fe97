"""The served policy in its process.

It does not import Ray: `rollouts.workers.engines` starts the actor. Ray's calls start it, watch it
and give it weights; requests come through a socket (see `rollouts.serving.request_server`).
"""

from pathlib import Path

from rollouts.serving.messages import Address
from rollouts.serving.served_policy import ServedPolicy
from rollouts.serving.statistics import EngineStatistics
from rollouts.settings import ServingSettings


class PolicyActor(ServedPolicy):
    """The served policy in its own process; `check_health` raises the error of a start."""

    def __init__(self, model_folder: Path, settings: ServingSettings, *, version: int) -> None:
        """Start the engine (see `ServedPolicy`)."""
        # Ray hands on the error of a call as it is, but of a constructor's only the text.
        self._failed_start: Exception | None = None
        try:
            super().__init__(model_folder, settings, version=version)
        except Exception as error:
            self._failed_start = error

    async def address(self) -> Address:
        """Return where workers send requests, or raise the error that stopped the start."""
        await self.check_health()
        return await super().address()

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

    async def forget(self, client: str) -> None:
        """Drop the requests of a client that is gone (see `ServedPolicy.forget`)."""
        if self._failed_start is None:
            await super().forget(client)
