"""One model trained by several processes: joining, sharing the weights out, gathering them, sharded
checkpoints.

The processes are ranks of `torch.distributed`; FSDP2 (`fully_shard`) leaves each a slice of every
weight, gradient and optimizer state. What saves, loads and gathers works without ranks too, in one
process with a plain module.

    store, address = listen()                                    # rank 0, which tells the others
    its address ranks = join(store, rank=0, size=2, device=cpu)              # and in rank 1:
    join(address, rank=1, ...) scorer = ranks.shard(Scorer(model))                          # the
    same model and weights in every rank optimizer = AdamW(scorer.parameters())
    # after sharding: the slices are what is trained
"""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from transformers.modeling_layers import GradientCheckpointingLayer

from agent_rl.learner.ranks import Ranks

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

_WEIGHT, _STATE = "weight", "optimizer"
"""A checkpoint names its tensors `weight/<weight>` and `optimizer/<weight>/<exp_avg, step, ...>`."""


class ShardedRanks(Ranks):
    """The ranks of this process's group, seen from one of them (see `join`). All must make the same
    calls in order.
    """

    def __init__(self, *, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.device = device

    def shard(self, module: M) -> M:
        """Share the weights of `module` out, a group for each decoder layer and one for the rest;
        changes it in place.

        Its weights, the same in every rank, are on the ranks' device. Only `module`'s own call
        makes weights whole: what reads them, a language model's head too, does so within its
        `forward`. Gradients are summed over the ranks, not averaged; every rank makes as many
        forward and as many backward passes as the others.
        """
        if self.size == 1:
            return module
        mesh = init_device_mesh(self.device.type, (self.size,))
        layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
        parts: list[nn.Module] = [*layers, module]
        for part in parts:
            group = fully_shard(part, mesh=mesh)
            group.set_gradient_divide_factor(1.0)
            # With a factor alone, the reduction is one that gloo does not have.
            group.set_force_sum_reduction_for_comms(True)
        module.register_forward_hook(_reshard_without_gradient)
        return module

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in their order; it is pickled. Ranks wait for each other here."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def clip_gradients(self, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the gradients down to a norm of `most`; returns the norm before, over all ranks
        (see `shard`).

        It is not finite in any rank where some rank's gradient is not.
        """
        norm = clip_grad_norm_(parameters, most)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def leave(self) -> None:
        """Leave the group. Afterwards another one can be joined."""
        dist.destroy_process_group()


def listen(host: str = "127.0.0.1") -> tuple[TCPStore, str]:
    """Rank 0's place for the ranks to meet, on a free port, and the address by which the others
    `join`.

    Args:
        host: this machine's name or address, as the other ranks reach it.
    """
    store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
    return store, f"{host}:{store.port}"


def join(
    meeting: TCPStore | str,
    *,
    rank: int,
    size: int,
    device: torch.device,
    timeout_seconds: float = 600.0,
) -> ShardedRanks:
    """Become one of `size` ranks; returns when all have come. A process is in one group at a time.

    Args:
        meeting: what `listen` returned: in rank 0 the store, in the others the address.
        rank: from 0.
        device: where this rank's weights are: the ranks talk by gloo on CPU, by NCCL on CUDA.
        timeout_seconds: the longest that a rank may keep the others waiting, here or later.

    Raises:
        RuntimeError: a rank did not come in time.
    """
    timeout = timedelta(seconds=timeout_seconds)
    if isinstance(meeting, str):
        host, _, port = meeting.rpartition(":")
        meeting = TCPStore(host, int(port), is_master=False, timeout=timeout)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    # Values that are gathered are on CPU, and go by gloo there too.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=meeting, rank=rank, world_size=size, timeout=timeout)
    return ShardedRanks(rank=rank, size=size, device=device)


@torch.no_grad()
def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The whole weights on CPU in rank 0, nothing in the others; every rank calls this.

    `module` is sharded, a part of what is sharded, or plain; its weights' own memory is returned
    where it can be. A weight of two names (tied embeddings) is one tensor under both.
    """
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    whole: dict[int, Tensor] = {}
    named = module.state_dict(keep_vars=True)
    for tensor in named.values():
        if id(tensor) not in whole:
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            whole[id(tensor)] = full.detach().cpu() if is_first else full.new_empty(0)
    return {name: whole[id(tensor)] for name, tensor in named.items()} if is_first else {}


def save_sharded(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Write weights and optimizer state, each rank its own slices; every rank calls this, with one
    new folder.

    The files are safetensors, which `load_sharded` reads in any number of ranks. The optimizer's
    settings (learning rate, ...) are not in them. All files are on disk when it returns in any
    rank.

    Raises:
        ValueError: there are files in the folder.
        RuntimeError: it could not be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: not empty; a sharded checkpoint needs a folder of its own")
    weights = dict(model.named_parameters())
    tensors = {f"{_WEIGHT}/{name}": weight.detach() for name, weight in weights.items()}
    for name, weight in weights.items():
        # `state` makes an empty entry for what it is asked for and does not have.
        for slot, value in optimizer.state.get(weight, {}).items():
            tensors[f"{_STATE}/{name}/{slot}"] = value
    try:
        with catch_warnings(action="ignore", category=UserWarning):  # that there are no other ranks
            save(
                tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True)
            )
    except CheckpointException as error:
        raise RuntimeError(f"{folder}: could not be written ({_reasons(error)})") from error


def load_sharded(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Read what `save_sharded` wrote, in any number of ranks, into `model` and its `optimizer`;
    every rank calls this.

    No code out of the files is run.

    Raises:
        ValueError: the folder is missing, damaged, or of another model; nothing was changed, unless
            a file is damaged behind its header.
    """
    saved = _read_headers(folder)
    weights = dict(model.named_parameters())
    _check_same_weights(folder, saved, weights)
    tensors: dict[str, Tensor] = {
        f"{_WEIGHT}/{name}": weight.detach() for name, weight in weights.items()
    }
    state: dict[str, dict[str, Tensor]] = {name: {} for name in weights}
    for key, header in saved.items():
        kind, _, rest = key.partition("/")
        if kind == _STATE:
            name, _, slot = rest.rpartition("/")
            like_the_weight = header.size == weights[name].shape
            empty = torch.zeros_like(weights[name]) if like_the_weight else torch.zeros(header.size)
            tensors[key] = state[name][slot] = empty.detach().to(header.properties.dtype)
    try:
        with catch_warnings(action="ignore", category=UserWarning):  # that there are no other ranks
            load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)))
    except CheckpointException as error:
        raise _damaged(folder, _reasons(error)) from error
    names = {id(weight): name for name, weight in weights.items()}
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbered = {number: state[names[id(weight)]] for number, weight in enumerate(trained)}
    optimizer.load_state_dict(
        {
            "state": {number: slots for number, slots in numbered.items() if slots},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def _reshard_without_gradient(module: nn.Module, _: Any, __: Any) -> None:
    # FSDP keeps the outermost group's weights whole until a backward pass. After a pass that has
    # none they would stay so: `parameters()` would not be what the optimizer trains, and the next
    # pass would not see what it changed.
    if not torch.is_grad_enabled() and isinstance(module, FSDPModule):
        module.reshard()


def _read_headers(folder: Path) -> dict[str, TensorStorageMetadata]:
    """What a checkpoint's files say they hold.

    torch goes by the files that are there: without the first of them it would load what it finds
    and say nothing.
    """
    try:
        saved: dict[str, Any] = (
            HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(folder, repr(error)) from error
    if not saved:
        raise _damaged(folder, "it holds no tensors")
    for key, header in saved.items():
        if sum(math.prod(chunk.sizes) for chunk in header.chunks) != math.prod(header.size):
            raise _damaged(folder, f"parts of {key} are missing")
    return saved


def _check_same_weights(
    folder: Path, saved: dict[str, TensorStorageMetadata], weights: dict[str, nn.Parameter]
) -> None:
    shapes = {
        key.partition("/")[2]: header.size
        for key, header in saved.items()
        if key.startswith(f"{_WEIGHT}/")
    }
    owners = {
        key.partition("/")[2].rpartition("/")[0] for key in saved if key.startswith(f"{_STATE}/")
    }
    different = (shapes.keys() ^ weights.keys()) | (owners - weights.keys())
    different |= {
        name for name in shapes.keys() & weights.keys() if shapes[name] != weights[name].shape
    }
    if different:
        raise ValueError(
            f"{folder}: damaged, or of another model; {', '.join(sorted(different)[:3])} differ"
        )


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(f"{folder}: no whole sharded checkpoint ({reason})")


def _reasons(error: CheckpointException) -> str:
    return "; ".join(f"rank {rank}: {reason!r}" for rank, (reason, _) in error.failures.items())
