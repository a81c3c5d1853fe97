"""Models whose weights are still in their files, so that a process reads only what it keeps.

    model = unread_model("runs/demo/sft/model", torch.float32)
    scorer = ranks.shard(Scorer(model))     # divides what is not there yet
    read_weights(scorer, device)            # reads this process's slices, one after the other

The weights are on torch's device `meta`: they have a shape and no numbers. Buffers have theirs, as
no file holds those that a model computes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from agent_rl.config import ConfigError
from agent_rl.policy.folder import CONFIG, weight_files

_UNREAD = "unread_weights"
"""The attribute of a model whose weights are in their files."""
_FILES = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
"""What is fetched of a model of the hub."""
_FORMATS = ("F64", "F32", "F16", "BF16")

_Part = tuple[slice, ...] | EllipsisType


class UnreadWeights:
    """The weights of a model, and where they are."""

    def __init__(self, model: PreTrainedModel, files: dict[str, Path]) -> None:
        """Note each weight's place in the model and its file.

        Modules stay the same when an adapter wraps them or when they are shared out, and names do
        not. Tied weights are one weight, under its first name.

        Args:
            model: on `meta`.
            files: the file of each weight, by the model's names.
        """
        first_names = {id(weight): name for name, weight in model.named_parameters()}
        self.places: list[tuple[nn.Module, str, str]] = []
        """Module, attribute, and the name in the files, of each weight."""
        self._stored: dict[str, str] = {}
        for path, module in model.named_modules():
            for attribute, weight in module.named_parameters(recurse=False, remove_duplicate=False):
                name = first_names[id(weight)]
                self.places.append((module, attribute, name))
                self._stored[f"{path}.{attribute}".removeprefix(".")] = name
        self._files = files

    def read(self, name: str, dtype: torch.dtype, part: _Part = ...) -> Tensor:
        """Return a weight, or a part of it, on CPU.

        Args:
            name: the model's name of it.
            dtype: of the result.
            part: a slice for each dimension.
        """
        stored = self._stored.get(name, name)
        # Opened each time: a file's pages that were read would count as this process's memory.
        with safe_open(self._files[stored], "pt") as file:
            tensor: Tensor = file.get_slice(stored)[part].to(dtype, copy=True)
        return tensor


def unread_model(
    where: str, dtype: torch.dtype, *, revision: str | None = None
) -> PreTrainedModel | None:
    """Return a model whose weights are in their files, or None if it has to be loaded whole.

    It has to be whole if the files are no safetensors, or if their names and shapes are not the
    model's own: transformers then converts them as it loads.

    Args:
        where: a folder, or a name on the hub.
        dtype: of the weights when they are read.
        revision: of a hub model.

    Raises:
        Exception: of transformers or of the hub, as `from_pretrained` raises it.
    """
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(where, **options)
    stored = _stored_weights(where, revision)
    make: Any = AutoModelForCausalLM.from_config
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = make(config, dtype=dtype)
    # Each weight was moved to `meta` by itself, so tied ones have come apart.
    model.tie_weights()
    shapes = {name: list(weight.shape) for name, weight in model.named_parameters()}
    every = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    if shapes != {name: shape for name, (_, shape) in stored.items()}:
        return None
    if model.state_dict().keys() != set(every):
        return None  # a file may hold buffers, too
    load: Any = GenerationConfig.from_pretrained
    try:
        model.generation_config = load(where, revision=revision)
    except OSError:  # without a file of its own, it is what the config says
        of_config = {"config_file_name": CONFIG, "_from_model_config": True}
        model.generation_config = load(where, revision=revision, **of_config)
    files = {name: file for name, (file, _) in stored.items()}
    setattr(model, _UNREAD, UnreadWeights(model, files))
    return model


def unread_weights(model: nn.Module) -> UnreadWeights | None:
    """Return the weights that a model, or one within a module, still has in files."""
    for module in model.modules():
        found = vars(module).get(_UNREAD)
        if isinstance(found, UnreadWeights):
            return found
    return None


def to_device(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Move a model to a device, but for weights without numbers, which get there when read."""
    move: Any = model._apply  # as `model.to`, which refuses a model on `meta`
    moved: PreTrainedModel = move(lambda t: t if t.is_meta else t.to(device))
    return moved


@torch.no_grad()
def read_weights(module: nn.Module, device: torch.device) -> None:
    """Read the weights that are still in files, one after the other; a no-op if there are none.

    A weight that is shared out among processes becomes this process's slice of it.

    Args:
        module: a model, or a module that contains one.
        device: the weights' device.
    """
    unread = unread_weights(module)
    if unread is None:
        return
    read: dict[str, nn.Parameter] = {}
    for owner, attribute, name in unread.places:
        empty = getattr(owner, attribute)
        if name not in read:
            read[name] = nn.Parameter(_numbers(unread, name, empty, device), empty.requires_grad)
        # FSDP follows a parameter that is replaced this way.
        owner.load_state_dict({attribute: read[name]}, strict=False, assign=True)
    for part in module.modules():
        vars(part).pop(_UNREAD, None)


@contextmanager
def as_if_read(model: PreTrainedModel) -> Iterator[None]:
    """Let unread weights look like weights on CPU within a block; they take no memory.

    What is put next to a weight goes to its device, such as an adapter, which has numbers already.
    """
    unread = unread_weights(model)
    places = [] if unread is None else unread.places
    held = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in places]
    for owner, attribute, weight in held:
        one_number = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
        setattr(owner, attribute, nn.Parameter(one_number, weight.requires_grad))
    try:
        yield
    finally:
        for owner, attribute, weight in held:
            weight.requires_grad_(getattr(owner, attribute).requires_grad)
            setattr(owner, attribute, weight)


def _numbers(unread: UnreadWeights, name: str, empty: Tensor, device: torch.device) -> Tensor:
    """Read a weight in place of an empty one: all of it, or this process's slice."""
    if not isinstance(empty, DTensor):
        return unread.read(name, empty.dtype).to(device)
    shape, begins = compute_local_shape_and_global_offset(
        empty.shape, empty.device_mesh, empty.placements
    )
    part = tuple(slice(begin, begin + size) for begin, size in zip(begins, shape, strict=True))
    # A process has nothing of a weight with fewer rows than there are processes.
    numbers = unread.read(name, empty.dtype, part) if all(shape) else torch.empty(shape)
    return DTensor.from_local(
        numbers.to(device, empty.dtype),
        empty.device_mesh,
        empty.placements,
        run_check=False,
        shape=empty.shape,
        stride=empty.stride(),
    )


def _stored_weights(where: str, revision: str | None) -> dict[str, tuple[Path, list[int]]]:
    """The file and the shape of each weight in safetensors files; empty if there are none."""
    folder = Path(where)
    if not folder.is_dir():
        folder = Path(snapshot_download(where, revision=revision, allow_patterns=_FILES))
    try:
        files = weight_files(folder)
    except ConfigError:
        return {}
    stored: dict[str, tuple[Path, list[int]]] = {}
    for path in files:
        if path.suffix != ".safetensors":
            return {}
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                header = file.get_slice(name)
                if header.get_dtype() not in _FORMATS:
                    return {}
                stored[name] = path, header.get_shape()
    return stored
