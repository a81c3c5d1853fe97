"""Serves the policy with vLLM. The only file that imports vllm, and only to build an engine."""

import asyncio
import os
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rollouts.episode import describe
from rollouts.processes.lifeline import OWNER
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.engine_thread import EngineThread
from rollouts.serving.model_config import (
    CPU_BLOCK_TOKENS,
    model_context_length,
    read_config,
    require_kv_cache,
)
from rollouts.settings import ServingSettings
from rollouts.types import Completion, FinishReason

_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    # The threads of vLLM, the learner and the environments share the cores: none of them may pin
    # itself to one.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # The engine runs in a thread of this process (see `engine_thread`).
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}

_CAUSE = 300
"""The most letters of vLLM's own message within ours; it may list all models that it knows."""


class ServedPolicy:
    """A `Policy` over vLLM's engine, whose weights can be replaced while it runs.

    One version of the weights samples a whole completion, and the completion carries that version.
    """

    def __init__(
        self, model_folder: str | Path, settings: ServingSettings, *, version: int = 0
    ) -> None:
        """Start the engine, which takes 10 to 20 s on a small machine.

        Raises:
            ValueError: the model or the settings cannot be served; the message says why.
        """
        self.version = version
        self.context_length = model_context_length(model_folder, settings)
        self._tied = read_config(model_folder).get("tie_word_embeddings", False)
        self._in_flight = 0
        self._idle = asyncio.Event()
        """Set while no request is in flight."""
        self._idle.set()
        self._syncing = asyncio.Lock()
        """Held while the weights are replaced, and by each request for a moment as it starts."""
        self._engine = EngineThread(
            lambda: start_engine(model_folder, settings),
            places=settings.max_concurrent,
        )

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        params = sampling_params(
            max_tokens=max_tokens,
            temperature=temperature,
            stop_token_ids=list(stop_token_ids),
            seed=seed,
        )
        # Waits here while the weights are being replaced: a request that started then would be
        # sampled by old and new weights.
        async with self._syncing:
            self._in_flight += 1
            self._idle.clear()
        try:
            prompt = {"prompt_token_ids": list(token_ids)}
            answer, seconds = await self._engine.generate(prompt, params)
            output = answer.outputs[0]
            # At each position vLLM returns log-probs by id; only the sampled id's is of use.
            sampled = zip(output.token_ids, output.logprobs, strict=True)
            return Completion(
                token_ids=tuple(output.token_ids),
                logprobs=tuple(logprobs[token].logprob for token, logprobs in sampled),
                finish_reason=_finish_reason(output.finish_reason),
                versions=((self.version, 0),),
                seconds=seconds,
            )
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def sync_weights(
        self, folder: str | Path, version: int, *, wait_seconds: float = 60.0
    ) -> None:
        """Serve the weights in `folder` (Hugging Face format, same shapes) from now on.

        Waits for the requests in flight. Later requests wait for the new weights.

        Args:
            version: the version that completions carry from now on.
            wait_seconds: the longest wait for the requests in flight.

        Raises:
            ValueError: the embeddings are tied and the engine runs on CPU, where it would keep its
                copy of the old LM head.
            RuntimeError: requests were still in flight after `wait_seconds`.
        """
        from vllm.platforms import current_platform

        if self._tied and current_platform.is_cpu():
            raise ValueError(
                "model: vLLM on CPU does not refresh the LM head of a model with tied embeddings; "
                "save an untied copy (tie_word_embeddings: false, lm_head.weight written out) and "
                "serve that"
            )
        async with self._syncing:
            try:
                await asyncio.wait_for(self._idle.wait(), wait_seconds)
            except TimeoutError as error:
                raise RuntimeError(
                    f"weights not loaded: {self._in_flight} requests are still in flight"
                ) from error
            await self._engine.call(partial(_reload, folder=str(folder)))
            self.version = version

    async def check_health(self) -> None:
        """Raise the error that killed the engine, if it is dead."""
        self._engine.check()

    async def shutdown(self) -> None:
        """End the engine. No other method may be called after this one."""
        self._engine.stop()


def _finish_reason(of_vllm: str | None) -> FinishReason:
    """Return why a completion ended; raise `RuntimeError` if vLLM gave it up."""
    if of_vllm == "stop":
        return FinishReason.STOP
    if of_vllm in ("length", "repetition"):
        return FinishReason.LENGTH
    raise RuntimeError(f"vLLM ended the completion with {of_vllm!r} before it was whole")


def _reload(engine: Any, folder: str) -> None:
    """Load the weights in `folder`, between two steps of the engine."""
    engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    # The cached keys and values were computed by the old weights.
    if not engine.reset_prefix_cache():
        raise RuntimeError("vLLM kept its prefix cache, which belongs to the old weights")


def sampling_params(**arguments: Any) -> Any:
    """Return vLLM's `SamplingParams` as every request has them: log-probs, ids and no text."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY, **arguments
    )


def start_engine(model_folder: str | Path, settings: ServingSettings) -> Any:
    """Start vLLM's engine (an `LLMEngine`) in this process.

    Raises:
        ValueError: the model or the settings cannot be served; the message says why.
    """
    # Before the import, at which vLLM reads them.
    os.environ |= _ENVIRONMENT | {
        "OMP_NUM_THREADS": str(settings.threads),
        OWNER: str(os.getpid()),
    }
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    context_length = model_context_length(model_folder, settings)
    gpu = not current_platform.is_cpu()
    dtype = chosen_dtype(settings.dtype, gpu=gpu)
    if gpu:
        device: dict[str, Any] = {"gpu_memory_utilization": settings.gpu_memory_utilization}
    else:
        require_kv_cache(model_folder, settings, dtype)
        device = {
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30),
            "block_size": CPU_BLOCK_TOKENS,
            "enforce_eager": True,
            # A seeded request whose prompt is prefilled in parts kills vLLM's CPU engine ("CPU
            # Generator does not use offset"), so prompts are never cut.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, context_length),
        }
    try:
        return LLMEngine.from_engine_args(
            EngineArgs(
                model=str(model_folder),
                skip_tokenizer_init=True,
                dtype=dtype,
                max_model_len=context_length,
                max_num_seqs=settings.max_concurrent,
                logprobs_mode="processed_logprobs",
                enable_prefix_caching=True,
                disable_log_stats=True,
                **device,
            )
        )
    except Exception as error:
        memory = "gpu_memory_utilization" if gpu else "kv_cache_gib"
        raise ValueError(
            f"the serving engine (vLLM) cannot start: {_root_cause(error)}. If it lacks memory, "
            f"raise serving.{memory} or set a shorter serving.context_length; if it does not know "
            "the model, use one that vLLM serves"
        ) from error


def _root_cause(error: BaseException) -> str:
    """Return the text of the error that others were raised from, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = describe(error)
    if isinstance(error, ValidationError):
        # Its own text repeats the whole input of each wrong value.
        text = "; ".join(item["msg"] for item in error.errors(include_input=False))
    text = text.removeprefix("Value error, ")
    return textwrap.shorten(text, _CAUSE, placeholder=" ...").removesuffix(".")
