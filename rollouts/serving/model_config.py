"""Reads from a model's config.json what serving needs: its context, its heads, its KV cache.

Light to import, so that settings that cannot be served are refused before an engine starts.
"""

import math
from pathlib import Path
from typing import Any

from envs.files import read_json_object
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.served_adapter import adapter_in
from rollouts.settings import ServingSettings

CPU_BLOCK_TOKENS = 32
"""The smallest block that vLLM's CPU attention takes. The prefix cache keeps whole blocks only, so
the default of 128 would recompute up to 127 tokens of each prompt."""

_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
    "n_ctx",
)
"""The names that architectures give the number of positions; vLLM looks for nearly the same."""
_DECODERS = ("text_config", "llm_config", "language_config")
"""The names of a decoder's own config within that of a larger model."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""The names of the number of experts in a layer."""
_PLAIN_ATTENTION = (
    "gpt2",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "smollm3",
)
"""The model types whose every layer keeps a key and a value of each past token, and nothing else.
Others may need less, and nothing is refused for them here."""
_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def model_context_length(model_folder: str | Path, settings: ServingSettings) -> int:
    """Return the context in tokens to serve: `serving.context_length`, or the model's own.

    Raises:
        ValueError: the folder holds no model, its config names no number of positions and
            `serving.context_length` is 0, or `serving.context_length` is more than the model was
            built for.
    """
    found = _positions(read_config(model_folder))
    if not found:
        if settings.context_length:
            return settings.context_length
        raise ValueError(
            f"serving.context_length: 0 is the model's own context, but "
            f"{str(Path(model_folder) / 'config.json')!r} names none (max_position_embeddings); "
            "set serving.context_length to the tokens that the model was trained for"
        )
    key, longest = min(found.items(), key=lambda item: item[1])
    if settings.context_length > longest:
        raise ValueError(
            f"serving.context_length: {settings.context_length} is more than the {longest} "
            f"positions of the model in {str(model_folder)!r} ({key}); set at "
            f"most {longest}, or 0 for the model's own"
        )
    return settings.context_length or longest


def require_servable(model_folder: str | Path, settings: ServingSettings, *, gpu: bool) -> None:
    """Raise if an engine with these settings cannot start, as far as is known before it starts.

    Args:
        gpu: whether it will run on a GPU.

    Raises:
        ValueError: the message says why, and which values fit.
    """
    _require_even_shares(model_folder, settings.tensor_parallel)
    if gpu:
        if settings.deterministic:
            raise ValueError(
                "serving.deterministic: true is for CPU; on a GPU, kernels round by the batch, and "
                "neither vLLM's batch-invariant mode nor the learner was tested there: set it to "
                "false"
            )
        return
    if settings.sleep:
        raise ValueError(
            "serving.sleep: true needs a GPU, whose memory it gives back; vLLM cannot do so on a "
            "CPU: set it to false"
        )
    _require_plain_adapter(model_folder)
    require_kv_cache(model_folder, settings, chosen_dtype(settings.dtype, gpu=False))


def _require_plain_adapter(model_folder: str | Path) -> None:
    """Raise if a folder has an adapter on a model with experts, as vLLM on CPU dies of it."""
    config = _decoder(read_config(model_folder))
    experts = _count(config, *_EXPERTS)
    if experts and adapter_in(model_folder) is not None:
        raise ValueError(
            f"serving.lora: adapter: the model has {experts} experts in a layer, and with an "
            "adapter vLLM computes experts by kernels that need a GPU; set serving.lora: merged"
        )


def _require_even_shares(model_folder: str | Path, processes: int) -> None:
    """Raise if processes cannot have equal parts of each layer (`serving.tensor_parallel`)."""
    config = _decoder(read_config(model_folder))
    heads = _count(config, "num_attention_heads", "n_head")
    kv_heads = _count(config, "num_key_value_heads") or heads
    width = _count(config, "intermediate_size")
    if heads is None or kv_heads is None:
        return  # vLLM judges it

    def fits(count: int) -> bool:
        # With fewer key-value heads than processes, some have the same one.
        shared = kv_heads % count == 0 or count % kv_heads == 0
        return heads % count == 0 and shared and (width or 0) % count == 0

    if not fits(processes):
        may_be = ", ".join(str(count) for count in range(1, heads + 1) if fits(count))
        inner = f" and {width} inner units" if width else ""
        raise ValueError(
            f"serving.tensor_parallel: {processes} processes cannot have equal parts of the model "
            f"in {str(model_folder)!r}: its layers have {heads} attention heads with {kv_heads} "
            f"keys and values{inner}; with this model it may be {may_be}"
        )


def require_kv_cache(model_folder: str | Path, settings: ServingSettings, dtype: str) -> None:
    """Raise if the KV cache of a process on CPU cannot hold one sequence of the whole context.

    Models whose need is not known pass: vLLM judges them as it starts.

    Args:
        dtype: of the served weights, and so of the cache, such as `bfloat16`.

    Raises:
        ValueError: it is too small; the message has the numbers that fit.
    """
    per_token = _bytes_per_token(read_config(model_folder), dtype, settings.tensor_parallel)
    if per_token is None:
        return
    context = model_context_length(model_folder, settings)
    size, block = int(settings.kv_cache_gib * 2**30), CPU_BLOCK_TOKENS * per_token
    # vLLM keeps one block back, which no sequence gets.
    needed = (math.ceil(context / CPU_BLOCK_TOKENS) + 1) * block
    if size >= needed:
        return
    fits = max(size // block - 1, 0) * CPU_BLOCK_TOKENS
    shorter = f", or serving.context_length to at most {fits}" if fits else ""
    raise ValueError(
        f"serving.kv_cache_gib: {settings.kv_cache_gib:g} is {_readable(size)}, but one sequence "
        f"of {context} tokens (serving.context_length, or the model's own) needs "
        f"{_readable(needed - block)} of KV cache, {per_token:,} bytes for each token, and vLLM "
        f"keeps {_readable(block)} back; set serving.kv_cache_gib to at least "
        f"{_rounded_up(needed / 2**30)}{shorter}"
    )


def read_config(model_folder: str | Path) -> dict[str, Any]:
    """Return the content of a model folder's config.json.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    path = Path(model_folder) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"model: {str(path)!r} does not exist; name a folder that holds a Hugging Face model"
        )
    return read_json_object(path)


def _positions(config: dict[str, Any]) -> dict[str, int]:
    """The numbers of positions that a config names, by key."""
    for part in (config, *(config.get(name) for name in _DECODERS)):
        if isinstance(part, dict):
            found = {key: part[key] for key in _POSITIONS if _is_count(part.get(key))}
            if found:
                return found
    return {}


def _decoder(config: dict[str, Any]) -> dict[str, Any]:
    """The decoder's own config within that of a larger model, or the config itself."""
    parts = (config.get(name) for name in _DECODERS)
    return next((part for part in parts if isinstance(part, dict)), config)


def _count(config: dict[str, Any], *keys: str) -> int | None:
    """The first number among a config's keys; None if there is none."""
    found: Any = next((config[key] for key in keys if _is_count(config.get(key))), None)
    return None if found is None else int(found)


def _bytes_per_token(config: dict[str, Any], dtype: str, processes: int) -> int | None:
    """The bytes of one token's keys and values in all layers, in one of an engine's processes.

    None if that is not known.
    """
    window = config.get("use_sliding_window", True) and config.get("sliding_window")
    kinds = set(config.get("layer_types") or ["full_attention"])
    if config.get("model_type") not in _PLAIN_ATTENTION or window or kinds != {"full_attention"}:
        return None
    layers = _count(config, "num_hidden_layers", "n_layer")
    heads = _count(config, "num_attention_heads", "n_head")
    hidden = _count(config, "hidden_size", "n_embd")
    if layers is None or heads is None or hidden is None:
        return None
    kv_heads = config.get("num_key_value_heads") or heads
    head_size = config.get("head_dim") or hidden // heads
    own_heads = max(kv_heads // processes, 1)
    return int(2 * layers * own_heads * head_size * _DTYPE_BYTES[dtype])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _readable(size: int) -> str:
    """Write bytes in the largest unit that fits: `65536` is `64 KiB`."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 2 ** (10 * power):
            return f"{size / 2 ** (10 * power):.3g} {unit}"
    return f"{size} bytes"


def _rounded_up(value: float) -> str:
    """Write a positive number with two digits, never less than it is: 0.0611 is `0.062`."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / unit) * unit:.2g}"
