"""Sharding: one model trained by several processes, each with a part of every weight.

The processes are ranks of `torch.distributed`. FSDP2 (`fully_shard`) leaves each of them a slice of
every weight, gradient and optimizer state. The functions that save and load weights also work in
one process, with a plain module. `agent_rl.policy.whole` gathers whole weights.

    store, address = listen()                           # in rank 0; the others need the address
    ranks = join(store, rank=0, size=2, device=cpu)     # in rank 1: join(address, rank=1, ...)
    scorer = ranks.shard(Scorer(model))                 # the same weights in every rank
    optimizer = AdamW(scorer.parameters())              # after sharding: it trains the slices
"""

import json
import math
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from transformers.modeling_layers import GradientCheckpointingLayer

from agent_rl.learner.ranks import Ranks
from agent_rl.policy.weight_file import write_tensors
from rollouts.processes.gloo import listen_on_loopback

M = TypeVar("M", bound=nn.Module)

LOOPBACK = "127.0.0.1"
"""The address that only this machine can reach."""
_WEIGHT, _STATE = "weight", "optimizer"
"""The names of a checkpoint's tensors: `weight/<weight>`, `optimizer/<weight>/<exp_avg, ...>`."""


class ShardedRanks(Ranks):
    """The ranks of this process's group (see `join`). All must make the same calls in order."""

    def __init__(self, *, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.device = device

    def shard(self, module: M, *, bfloat16: bool = False) -> M:
        """Divide the weights of a module among the ranks, in place.

        Each decoder layer is a group of weights, and the rest is one more. A group is collected
        while it is used, so a rank holds one layer's whole weights at a time.

        Only a call of `module` itself collects weights. So everything that reads them has to do so
        within its `forward`, a language model's head included. Gradients are summed over the ranks,
        not averaged. Every rank makes as many forward and backward passes as the others.

        The slices stay in float32. With `bfloat16` a layer's matrices are collected in bfloat16, as
        autocast would cast them: half the traffic and memory. Its activations are left to autocast,
        and gradients are summed in float32. Embedding, head and norms stay in float32, as autocast
        leaves them: in bfloat16 a norm's weight of 1.003 is 1.

        Args:
            module: its weights are the same in every rank, on the ranks' device.
            bfloat16: whether autocast computes the layers in bfloat16.
        """
        if self.size == 1:
            return module
        of_layers = MixedPrecisionPolicy()
        if bfloat16:
            of_layers = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
        mesh = init_device_mesh(self.device.type, (self.size,))
        layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
        # What is in no other group is in the last one.
        groups: list[tuple[list[nn.Module], MixedPrecisionPolicy]] = [
            (_without_norms(layer) if bfloat16 else [layer], of_layers) for layer in layers
        ]
        groups.append(([module], MixedPrecisionPolicy()))
        for modules, policy in groups:
            for part in fully_shard(modules, mesh=mesh, mp_policy=policy):
                part.set_gradient_divide_factor(1.0)
                # Without this, FSDP would ask for a scaled sum, which gloo does not have.
                part.set_force_sum_reduction_for_comms(True)
        module.register_forward_hook(_reshard_without_gradient)
        return module

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return every rank's tensors on CPU, in the order of the ranks.

        They travel as safetensors, which cannot hold code as a pickle can: another program may
        reach the ranks' ports. Ranks wait for each other here.
        """
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        packed = torch.frombuffer(bytearray(pack(copies)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(packed)]))
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(packed)] = packed
        of_ranks = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(of_ranks, padded)
        return [
            unpack(of_rank[: int(size)].numpy().tobytes())
            for of_rank, size in zip(of_ranks, sizes, strict=True)
        ]

    def clip_gradients(self, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the gradients down to a norm of `most`; return the norm before, over all ranks.

        If one rank's gradient is not finite, the norm is not finite in any rank.
        """
        norm = clip_grad_norm_(parameters, most)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def listen(host: str = LOOPBACK) -> tuple[TCPStore, str]:
    """Open the rendezvous in rank 0, on a free port of one address only.

    Args:
        host: this machine's name or address, as the other ranks reach it.

    Returns:
        The store for rank 0's `join`, and the address for that of the others.
    """
    # Made here, because the store itself would listen on all addresses. It takes the socket over,
    # so no other program can get the port in between.
    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    store = TCPStore(
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    return store, f"{host}:{port}"


def join(
    rendezvous: TCPStore | str,
    *,
    rank: int,
    size: int,
    device: torch.device,
    timeout_seconds: float = 600.0,
) -> ShardedRanks:
    """Become one of `size` ranks; return when all have joined.

    A process is in one group at a time.

    Args:
        rendezvous: from `listen`: in rank 0 the store, in the others the address.
        rank: from 0.
        size: the number of ranks.
        device: of this rank's weights. Ranks exchange them by gloo on CPU, by NCCL on CUDA.
        timeout_seconds: the longest time that a rank may keep the others waiting, here or later.

    Raises:
        RuntimeError: a rank did not join in time.
    """
    timeout = timedelta(seconds=timeout_seconds)
    if isinstance(rendezvous, str):
        host, _, port = rendezvous.rpartition(":")
        rendezvous = TCPStore(host, int(port), is_master=False, timeout=timeout)
    if rendezvous.host == LOOPBACK:
        listen_on_loopback()
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    # Also gloo on CUDA machines: the values of `gather` are on CPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=rendezvous, rank=rank, world_size=size, timeout=timeout)
    return ShardedRanks(rank=rank, size=size, device=device)


def save_sharded(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Write weights and optimizer state, each rank its own slices; every rank calls this.

    The files are safetensors, which `load_sharded` reads in any number of ranks. They do not have
    the optimizer's settings, such as the learning rate. When this returns in any rank, the files of
    all ranks are on disk.

    Args:
        folder: new or empty, the same in every rank.
        model: sharded or plain.
        optimizer: of its parameters.

    Raises:
        ValueError: the folder has files.
        RuntimeError: the folder could not be written.
    """
    # Every rank looks before any rank writes.
    if any(_from_all_ranks("filled" if folder.exists() and any(folder.iterdir()) else "")):
        raise ValueError(f"{folder}: not empty; a sharded checkpoint needs a new folder")
    weights = dict(model.named_parameters())
    tensors = {f"{_WEIGHT}/{name}": weight.detach() for name, weight in weights.items()}
    for name, weight in weights.items():
        # `get`, as `state` is a defaultdict: asking with [] would add an entry.
        for slot, value in optimizer.state.get(weight, {}).items():
            tensors[f"{_STATE}/{name}/{slot}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    rank, failure = dist.get_rank() if dist.is_initialized() else 0, ""
    try:
        _write_slices(folder, tensors, rank)
    except (OSError, SafetensorError) as error:
        failure = f"rank {rank}: {error!r}"
    # Every rank waits for the files of all, and learns of a failure.
    failures = _from_all_ranks(failure)
    if failures:
        raise RuntimeError(f"{folder}: could not be written ({'; '.join(failures)})")


def _from_all_ranks(text: str) -> list[str]:
    """Return the texts of all ranks that are not empty; ranks wait for each other here."""
    texts = [text]
    if dist.is_initialized():
        cpu = torch.device("cpu")
        ranks = ShardedRanks(rank=dist.get_rank(), size=dist.get_world_size(), device=cpu)
        # A tensor of no bytes cannot be made from a buffer: a space goes first.
        told = torch.frombuffer(bytearray(f" {text}".encode()), dtype=torch.uint8)
        gathered = ranks.gather({"text": told})
        texts = [bytes(of_rank["text"].tolist()).decode()[1:] for of_rank in gathered]
    return [of_rank for of_rank in texts if of_rank]


def _write_slices(folder: Path, tensors: Mapping[str, Tensor], rank: int) -> None:
    """Write this rank's slices of tensors, as `HuggingFaceStorageReader` reads them.

    torch's own writer exchanges pickles between the ranks.
    """
    slices: dict[str, Tensor] = {}
    begins: dict[str, dict[str, list[int]]] = {}
    for name, tensor in tensors.items():
        begin = [0] * tensor.dim()
        if isinstance(tensor, DTensor):
            _, offsets = compute_local_shape_and_global_offset(
                tensor.shape, tensor.device_mesh, tensor.placements
            )
            begin, tensor = list(offsets), tensor.to_local()
            if not tensor.numel():
                continue  # more ranks than rows
        elif rank:
            continue  # the same in every rank: the first writes it
        slices[name] = tensor
        begins[name] = {SAVED_OFFSETS_KEY: begin}
    if slices:
        metadata = {"format": "pt", CUSTOM_METADATA_KEY: json.dumps(begins)}
        forms = {name: (tensor.dtype, tensor.shape) for name, tensor in slices.items()}
        path = folder / f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
        write_tensors(path, forms, slices.items(), metadata)


def load_sharded(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Read a folder that `save_sharded` wrote, in any number of ranks; every rank calls this.

    No code from the files is run.

    Args:
        folder: the same in every rank.
        model: gets the weights.
        optimizer: gets the state; its settings stay.

    Raises:
        ValueError: the folder is missing, damaged, or of another model or optimizer. Nothing was
            changed, unless a file is damaged after its header.
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
    # An optimizer's state is by the number of the parameter, ours by its name.
    names = {id(weight): name for name, weight in weights.items()}
    for group in optimizer.param_groups:
        for weight in group["params"]:
            _check_same_optimizer(folder, names[id(weight)], state[names[id(weight)]], group)
    try:
        # The warning says that there are no other ranks.
        with catch_warnings(action="ignore", category=UserWarning):
            # Each rank reads its own slices: with `no_dist` no pickles are exchanged.
            load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    except CheckpointException as error:
        raise _damaged(folder, _reasons(error)) from error
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbered = {number: state[names[id(weight)]] for number, weight in enumerate(trained)}
    optimizer.load_state_dict(
        {
            "state": {number: slots for number, slots in numbered.items() if slots},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def _without_norms(module: nn.Module) -> list[nn.Module]:
    """The largest parts of a module that have weights, and none of a norm."""
    own = [list(part.parameters(recurse=False)) for part in module.modules()]
    if not any(weights and all(weight.dim() < 2 for weight in weights) for weights in own):
        return [module] if any(own) else []
    return [part for child in module.children() for part in _without_norms(child)]


def _reshard_without_gradient(module: nn.Module, _: Any, __: Any) -> None:
    # FSDP keeps the outermost group's weights whole until a backward pass. After a pass without one
    # they would stay whole: `parameters()` would not be the slices that the optimizer trains, and
    # the next pass would use the old weights.
    if not torch.is_grad_enabled() and isinstance(module, FSDPModule):
        module.reshard()


def _read_headers(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Return the headers of a checkpoint's tensors; raise ValueError if parts are missing.

    torch does not check this: if a file is missing, it silently loads the others.
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
    """Raise ValueError unless the checkpoint has the model's weights, in their shapes."""
    shapes: dict[str, torch.Size] = {}
    with_state: set[str] = set()
    for key, header in saved.items():
        kind, _, rest = key.partition("/")
        if kind == _WEIGHT:
            shapes[rest] = header.size
        elif kind == _STATE:
            with_state.add(rest.rpartition("/")[0])
    different = (shapes.keys() ^ weights.keys()) | (with_state - weights.keys())
    for name in shapes.keys() & weights.keys():
        if shapes[name] != weights[name].shape:
            different.add(name)
    if different:
        raise ValueError(
            f"{folder}: damaged, or of another model; {', '.join(sorted(different)[:3])} differ"
        )


def _check_same_optimizer(
    folder: Path, name: str, slots: dict[str, Tensor], group: dict[str, Any]
) -> None:
    """Raise ValueError if a weight's state is of another optimizer, which would keep it unread."""
    # Muon's groups have a momentum, AdamW's have betas.
    known = {"momentum_buffer"} if "momentum" in group else {"exp_avg", "exp_avg_sq", "step"}
    others = slots.keys() - known
    if others:
        raise ValueError(
            f"{folder}: of another optimizer, the state of {name} has {', '.join(sorted(others))}; "
            "set learner.muon_learning_rate back (null is AdamW)"
        )


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(f"{folder}: no whole sharded checkpoint ({reason})")


def _reasons(error: CheckpointException) -> str:
    return "; ".join(f"rank {rank}: {reason!r}" for rank, (reason, _) in error.failures.items())
