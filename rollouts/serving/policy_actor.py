"""The served policy in its process.

It does not import Ray: `rollouts.workers.engines` starts the actor. Ray's calls start it, watch it
and give it weights; requests come through a socket (see `rollouts.serving.request_server`).
"""

from pathlib import Path

from rollouts.serving.messages import Address
from rollouts.serving.served_policy import ServedPolicy
from rollouts.settings import ServingSettings


class PolicyActor(ServedPolicy):
    """The served policy in its own process; only `forget` and `shutdown` may precede `start`."""

    def __init__(self, settings: ServingSettings, *, stops: bool = False) -> None:
        """Keep the settings: where the weights are is known once the process is on a node.

        Args:
            stops: see `ServedPolicy`.
        """
        self._settings, self._stops = settings, stops
        self._runs = False

    async def start(
        self, model_folder: str | Path, version: int, host: str = "127.0.0.1"
    ) -> Address:
        """Start the engine (see `ServedPolicy`); return where workers send requests.

        Args:
            host: the address of this machine at which workers reach it; by default, those on it.

        Raises:
            ValueError: the model or the settings cannot be served; the message says why.
        """
        super().__init__(
            model_folder, self._settings, version=version, host=host, stops=self._stops
        )
        self._runs = True
        return await self.address()

    async def shutdown(self) -> None:
        """End the engine, if it has started."""
        if self._runs:
            await super().shutdown()

    async def forget(self, client: str) -> None:
        """Drop the requests of a client that is gone (see `ServedPolicy.forget`)."""
        if self._runs:
            await super().forget(client)
