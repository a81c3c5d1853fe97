"""The adapter (LoRA) in a served folder, with `serving.lora: adapter`. Light to import.

    model.safetensors                          the base's weights, which never change
    served_adapter/adapter_config.json         PEFT's two files
    served_adapter/adapter_model.safetensors   new for each version

The name is not that of a checkpoint's adapter, which is merged into the weights beside it.
"""

from pathlib import Path
from typing import Any

from envs.files import read_json_object

FOLDER = "served_adapter"
"""The adapter's folder, within the served folder."""
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The names that PEFT gives the files of an adapter."""

_ROOMS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has room for."""


def adapter_in(folder: str | Path) -> Path | None:
    """Return the folder of the adapter to serve; None if whole weights are served."""
    adapter = Path(folder) / FOLDER
    return adapter if (adapter / CONFIG).is_file() else None


def room_for(rank: int) -> int:
    """Return the rank that an engine has to have room for, to serve an adapter of `rank`.

    Raises:
        ValueError: there is no room for so high a rank.
    """
    room = next((room for room in _ROOMS if room >= rank), None)
    if room is None:
        raise ValueError(
            f"model.lora.rank: {rank} is more than {_ROOMS[-1]}, which vLLM serves at most; choose "
            "a lower one, or serving.lora: merged"
        )
    return room


def engine_arguments(adapter: Path | None) -> dict[str, Any]:
    """Return the arguments with which vLLM keeps room for one adapter of this size; none for None.

    Raises:
        ValueError: its rank is too high, or its config is damaged.
    """
    if adapter is None:
        return {}
    config = read_json_object(adapter / CONFIG)
    # vLLM names layers by their last part. Others would add zeros, and take as long. The head most.
    targets = config["target_modules"]
    names = {name.rpartition(".")[2] for name in targets} if isinstance(targets, list) else None
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": room_for(config["r"]),
        "lora_target_modules": sorted(names) if names else None,
    }
