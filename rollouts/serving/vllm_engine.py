"""vLLM's engine, with weights that have versions. The only file that imports vllm."""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rollouts.processes.gloo import listen_on_loopback
from rollouts.processes.lifeline import OWNER
from rollouts.serving.completions import completion_of
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.engine_errors import start_failure
from rollouts.serving.engine_thread import Finished
from rollouts.serving.messages import CompletionRequest
from rollouts.serving.model_config import CPU_BLOCK_TOKENS, model_context_length, require_servable
from rollouts.serving.served_adapter import adapter_in, engine_arguments
from rollouts.serving.vllm_worker import WORKER
from rollouts.settings import ServingSettings

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
    # The processes of an engine are new ones: a copy of this one would lack its threads.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}

_SHARED = re.compile(r"/dev/shm/psm_\w+")
"""A file of Python's `SharedMemory`, in the list of what a process has mapped."""
_PROCESS_ENDED = "one of its processes ended (serving.tensor_parallel)"


class VllmEngine:
    """The `SteppedEngine` of a policy; it runs in an `EngineThread`."""

    def __init__(
        self,
        model_folder: str | Path,
        settings: ServingSettings,
        *,
        version: int,
        on_death: Callable[[str], None],
        stops: bool = False,
    ) -> None:
        """Start it, which takes 10 to 20 s on a small machine.

        Args:
            version: the version of the weights in `model_folder`.
            on_death: is called with what happened if one of the engine's own processes ends. The
                call comes from another thread.
            stops: whether to end completions at stop strings.

        Raises:
            ValueError: the model or the settings cannot be served; the message says why.
        """
        self._engine = start_engine(model_folder, settings, stops=stops)
        adapter = adapter_in(model_folder)
        self._lora = None if adapter is None else _lora_request(adapter)
        """Names the adapter, if one is served; its content is that of the last `reload`."""
        self._stops, self._keep_cache = stops, settings.keep_cache
        self._core = self._engine.engine_core.engine_core
        self._vocabulary = self._engine.model_config.get_vocab_size()
        self._requests: dict[str, Any] = {}
        """vLLM's own records of the requests, by our ids."""
        self._made_room: dict[str, int] = {}
        """Preemptions that new weights caused, by vLLM's ids of the requests."""
        self._asleep = False
        self._executor = self._core.model_executor
        # vLLM calls it if there are several processes: then this one only schedules.
        self._executor.register_failure_callback(lambda: on_death(_PROCESS_ENDED))
        self._set_version(version)

    def has_unfinished_requests(self) -> bool:
        # Requests that come while it sleeps wait for `reload`.
        return not self._asleep and bool(self._engine.has_unfinished_requests())

    def add_request(self, request_id: str, request: CompletionRequest) -> None:
        prompt = request.token_ids
        unknown = next((i for i in prompt if not 0 <= i < self._vocabulary), None)
        if unknown is not None:
            # It would kill the engine, and then the next one, to which it is sent again.
            raise ValueError(
                f"the prompt has the token id {unknown}, and the model has {self._vocabulary} ids; "
                "the tokenizer belongs to another model"
            )
        # The type says that no renderer of vLLM's has to see the prompt, which takes time.
        inputs: dict[str, Any] = {"type": "token", "prompt_token_ids": list(prompt)}
        if self._keep_cache:
            # The cache still has keys and values of older weights, under their salt. It is chosen
            # here, in the thread: new weights may have come in since the request was made.
            inputs["cache_salt"] = self._engine.get_weight_version()
        params = sampling_params(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            stop_token_ids=request.stop_token_ids,
            seed=request.seed,
            stop=request.stop if self._stops else (),
        )
        internal = self._engine.add_request(request_id, inputs, params, lora_request=self._lora)
        self._requests[request_id] = self._core.scheduler.requests[internal]

    def abort_request(self, request_id: str) -> None:
        request = self._requests.pop(request_id)
        self._made_room.pop(request.request_id, None)
        self._engine.abort_request([request_id])

    def step(self) -> list[Finished]:
        try:
            outputs = self._engine.step()
        except RuntimeError as error:
            if getattr(self._executor, "is_failed", False):
                # vLLM's own word for it is "cancelled".
                raise RuntimeError(_PROCESS_ENDED) from error
            raise
        return [self._finished(output) for output in outputs if output.finished]

    def sleep(self) -> list[Finished]:
        """Give the GPU's memory back until the next `reload`; return what ended before.

        The weights and the KV cache are dropped.
        """
        finished = self._drain()
        self._note_preemptions()
        self._engine.sleep(level=2, mode="keep")
        self._asleep = True
        return finished

    def reload(self, folder: str | Path, version: int) -> list[Finished]:
        """Sample with the weights in `folder` from the next step on; return what ended before it.

        If it raises, some weights may be new and others old.
        """
        finished = self._drain()
        # One after the other: while weights are loaded, the cache's memory is still free.
        if self._asleep:
            self._engine.wake_up(["weights"])
        self._load(Path(folder))
        if self._asleep:
            self._engine.wake_up(["kv_cache"])
            self._asleep = False
        self._set_version(version)
        if not self._keep_cache:
            self._note_preemptions()
            # Running requests wait for a moment, and are then prefilled by the new weights.
            if not self._engine.reset_prefix_cache(reset_running_requests=True):
                raise RuntimeError("vLLM kept its prefix cache, which belongs to the old weights")
        return finished

    def _load(self, folder: Path) -> None:
        """Load the weights, or the adapter alone, in each of the engine's processes."""
        adapter = adapter_in(folder)
        if (adapter is None) != (self._lora is None):
            raise RuntimeError(
                f"{folder}: holds {'whole weights' if adapter is None else 'an adapter'}, and the "
                "engine has started with the other"
            )
        if adapter is not None:
            _load_adapter(self._engine, adapter)
            return
        if on_cpu():
            self._engine.collective_rpc("forget_expert_kernels")
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})

    def shared_memory(self) -> tuple[Path, ...]:
        """Return the files of shared memory between this process and the engine's own ones.

        They stay if all of these are killed at once: Ray kills Python's helper, which would delete
        them, as well.
        """
        workers = getattr(self._executor, "workers", ())
        pids = [os.getpid(), *(worker.proc.pid for worker in workers)] if workers else []
        maps = [Path(f"/proc/{pid}/maps") for pid in pids]
        text = "".join(file.read_text() for file in maps if file.exists())
        return tuple(sorted({Path(name) for name in _SHARED.findall(text)}))

    def shutdown(self) -> None:
        self._engine.engine_core.shutdown()

    def _set_version(self, version: int) -> None:
        self._engine.set_weight_version(str(version))

    def _drain(self) -> list[Finished]:
        """Take the tokens of the batches under way, so that they are told as the old version's.

        On a GPU vLLM starts a batch before it has the tokens of the last one. On CPU there is none.
        """
        from vllm.v1.core.sched.interface import PauseState

        finished = []
        if self._core.batch_queue:
            self._core.scheduler.set_pause_state(PauseState.PAUSED_ALL)
            while self._core.batch_queue:
                finished += self.step()
            self._core.scheduler.set_pause_state(PauseState.UNPAUSED)
        return finished

    def _note_preemptions(self) -> None:
        """Note that all running requests lose their places, though there is room for them."""
        for request in self._core.scheduler.running:
            made_room = self._made_room.get(request.request_id, 0)
            self._made_room[request.request_id] = made_room + 1

    def _finished(self, output: Any) -> Finished:
        request = self._requests.pop(output.request_id)
        made_room = self._made_room.pop(request.request_id, 0)
        return Finished(
            request_id=output.request_id,
            output=completion_of(output),
            sampled_tokens=len(output.outputs[0].token_ids),
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            preemptions=request.num_preemptions - made_room,
        )


def on_cpu() -> bool:
    """Return whether vLLM runs on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def sampling_params(
    *,
    max_tokens: int,
    temperature: float,
    stop_token_ids: Sequence[int],
    seed: int | None,
    ignore_eos: bool = False,
    stop: Sequence[str] = (),
) -> Any:
    """Return vLLM's `SamplingParams` as every request has them: log-probs, ids and no text.

    Args:
        ignore_eos: whether to pass over the end token that the model's own settings name.
        stop: texts that end the completion; the engine must have a tokenizer.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        stop_token_ids=list(stop_token_ids),
        seed=seed,
        ignore_eos=ignore_eos,
        logprobs=0,
        stop=list(stop),
        detokenize=bool(stop),
        skip_special_tokens=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        # It belongs to one request. A deep copy takes a third of the time to add that one.
        skip_clone=True,
    )


def start_engine(
    model_folder: str | Path, settings: ServingSettings, *, stops: bool = False
) -> Any:
    """Start vLLM's engine (an `LLMEngine`) in this process; with a tokenizer if it `stops` at text.

    Raises:
        ValueError: the model or the settings cannot be served; the message says why.
    """
    # Before the import, at which vLLM reads them.
    os.environ |= _ENVIRONMENT | {
        "OMP_NUM_THREADS": str(settings.threads),
        OWNER: str(os.getpid()),
        # Of a step of several processes; vLLM's own limit is fixed.
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": str(math.ceil(settings.step_timeout_seconds)),
    }
    if settings.tensor_parallel > 1:
        listen_on_loopback()
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    gpu = not current_platform.is_cpu()
    require_servable(model_folder, settings, gpu=gpu)
    if settings.deterministic:
        _be_deterministic()
    arguments = _arguments(model_folder, settings, gpu=gpu) | {"skip_tokenizer_init": not stops}
    adapter = adapter_in(model_folder)
    try:
        engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        if adapter is not None:
            _load_adapter(engine, adapter)
        return engine
    except Exception as error:
        memory = "gpu_memory_utilization" if gpu else "kv_cache_gib"
        merged = "" if adapter is None else "; if it refuses the adapter, set serving.lora: merged"
        raise ValueError(
            f"the serving engine (vLLM) cannot start: {start_failure(error)}. If it lacks memory, "
            f"raise serving.{memory} or set a shorter serving.context_length; if it does not know "
            f"the model, use one that vLLM serves{merged}"
        ) from error


def _load_adapter(engine: Any, adapter: Path) -> None:
    """Put an adapter into the engine, in place of the one before."""
    engine.add_lora(_lora_request(adapter, load_inplace=True))
    left_out, *_ = engine.collective_rpc("left_out_of_adapter")
    if left_out:
        raise ValueError(f"it leaves out the adapter's part for {left_out[0]}")


def _lora_request(adapter: Path, **options: Any) -> Any:
    """Name the adapter for vLLM, alike in all versions: so requests in flight go on with it."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name="policy", lora_int_id=1, lora_path=str(adapter), **options)


def _arguments(model_folder: str | Path, settings: ServingSettings, *, gpu: bool) -> dict[str, Any]:
    """The arguments of vLLM's engine."""
    context_length = model_context_length(model_folder, settings)
    if gpu:
        device: dict[str, Any] = {
            "gpu_memory_utilization": settings.gpu_memory_utilization,
            "enable_sleep_mode": settings.sleep,
        }
    else:
        device = {
            "kv_cache_memory_bytes": int(settings.kv_cache_gib * 2**30),
            "block_size": CPU_BLOCK_TOKENS,
            "enforce_eager": True,
            # A seeded request whose prompt is prefilled in parts kills vLLM's CPU engine ("CPU
            # Generator does not use offset"), so prompts are never cut.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, context_length),
        }
    if settings.tensor_parallel > 1:
        device |= {
            "tensor_parallel_size": settings.tensor_parallel,
            "distributed_executor_backend": "mp",
        }
    return {
        "model": str(model_folder),
        "worker_extension_cls": WORKER,
        "dtype": chosen_dtype(settings.dtype, gpu=gpu),
        "max_model_len": context_length,
        "max_num_seqs": settings.max_concurrent,
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": not settings.deterministic,
        "disable_log_stats": True,
        **engine_arguments(adapter_in(model_folder)),
        **device,
    }


def _be_deterministic() -> None:
    """Prepare this thread for an engine whose answers do not depend on one another.

    On CPU two things make them: the prefix cache and threads. A prompt of which a part is cached
    has fewer queries, and attention then cuts its keys at other places. Several threads share a
    batch out, and cut by its size. The matrix products of float32 give each row alike in any batch.
    """
    import torch

    # OMP_NUM_THREADS comes too late for a process that has loaded torch before.
    torch.set_num_threads(1)
