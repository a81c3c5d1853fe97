"""Serves the policy with vLLM, whose engine runs in a thread of this process."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rollouts.serving.engine_thread import EngineThread
from rollouts.serving.messages import Address, CompletionRequest
from rollouts.serving.model_config import model_context_length, read_config
from rollouts.serving.statistics import EngineStatistics
from rollouts.serving.vllm_engine import VllmEngine, on_cpu
from rollouts.settings import ServingSettings
from rollouts.types import Completion


class ServedPolicy:
    """A `Policy` over vLLM's engine, whose weights can be replaced while it samples.

    A completion carries the version of the weights that sampled each of its ids.
    """

    def __init__(
        self,
        model_folder: str | Path,
        settings: ServingSettings,
        *,
        version: int = 0,
        host: str = "127.0.0.1",
        stops: bool = False,
    ) -> None:
        """Start the engine, which takes 10 to 20 s on a small machine.

        Args:
            model_folder: holds the weights and the tokenizer.
            settings: see `docs/configuration.md`.
            version: the version of these weights.
            host: the address of this machine at which workers reach it; by default, those on it.
            stops: whether requests have stop strings, for which the engine needs the tokenizer.
                Without it they end later.

        Raises:
            ValueError: the model or the settings cannot be served; the message says why.
        """
        self.version = version
        self.context_length = model_context_length(model_folder, settings)
        self._tied = read_config(model_folder).get("tie_word_embeddings", False)
        self._engine = EngineThread(
            lambda: VllmEngine(
                model_folder, settings, version=version, on_death=self._end, stops=stops
            ),
            places=settings.max_concurrent,
            host=host,
        )

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
        stop: Sequence[str] = (),
    ) -> Completion:
        request = CompletionRequest(
            number=0,
            token_ids=token_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            stop_token_ids=stop_token_ids,
            seed=seed,
            stop=tuple(stop),
        )
        completion: Completion
        completion, seconds = await self._engine.generate(request)
        return replace(completion, seconds=seconds)

    async def sync_weights(self, folder: str | Path, version: int) -> None:
        """Sample with the weights in `folder` (Hugging Face format, same shapes) from now on.

        Requests in flight go on: their next ids are sampled by the new weights. Unless
        `serving.keep_cache` is set, these also compute all keys and values anew.

        Args:
            version: the version of these weights, which completions carry for each id.

        Raises:
            ValueError: the embeddings are tied and the engine runs on CPU, where it would keep its
                copy of the old LM head.
            EngineDead: the weights could not be loaded. The engine may have half of them, so it
                has ended.
        """
        if self._tied and on_cpu():
            raise ValueError(
                "model: vLLM on CPU does not refresh the LM head of a model with tied embeddings; "
                "save an untied copy (tie_word_embeddings: false, lm_head.weight written out) and "
                "serve that"
            )
        await self._engine.update(lambda engine: engine.reload(folder, version))
        self.version = version

    async def sleep(self) -> None:
        """Give the GPU's memory back until the next `sync_weights` (`serving.sleep`).

        Requests that come meanwhile wait.

        Raises:
            EngineDead: it could not, or the engine has ended before.
        """
        await self._engine.update(VllmEngine.sleep, loads=False)

    async def check_health(self) -> None:
        """Raise `EngineDead` if the engine has ended."""
        self._engine.check()

    async def address(self) -> Address:
        """Return where a `RemotePolicy` reaches it."""
        return self._engine.address

    async def forget(self, client: str) -> None:
        """Drop the requests of a `RemotePolicy` whose process is gone, by its name."""
        self._engine.forget(client)

    async def until_dead(self) -> None:
        """Wait until the engine ends by itself, and raise `EngineDead`. It never returns."""
        await self._engine.until_dead()

    async def steps(self) -> tuple[int, bool]:
        """Return the engine's steps so far, and whether it has work (see `EngineThread.steps`)."""
        return self._engine.steps()

    async def statistics(self) -> EngineStatistics:
        """Return what the engine has done since its start. The answer comes at once."""
        return self._engine.statistics()

    async def shared_memory(self) -> tuple[Path, ...]:
        """Return the engine's files of shared memory (see `VllmEngine.shared_memory`)."""
        return await self._engine.call(VllmEngine.shared_memory)

    async def shutdown(self) -> None:
        """End the engine. No other method may be called after this one."""
        self._engine.stop()

    def _end(self, cause: str) -> None:
        self._engine.end(cause)
