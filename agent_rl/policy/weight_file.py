"""Writes a safetensors file tensor by tensor, so that they are never in memory together."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

Form = tuple[torch.dtype, Sequence[int]]
"""Dtype and shape of a tensor."""

_FORMATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names of dtypes in a header."""
_LENGTH_BYTES = 8
"""A file begins with the length of its header, which is a multiple of this."""


def write_tensors(
    path: Path,
    forms: Mapping[str, Form],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file.

    Args:
        path: is replaced.
        forms: of each tensor, by its name; the file's header needs them first.
        tensors: each of them once, in any order. Each is written before the next one is asked for.
        metadata: goes into the header.

    Raises:
        OSError: the disk is full, or the path cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begins: dict[str, int] = {}
    end = 0
    # The largest numbers first, so that each tensor begins at a multiple of its numbers' size.
    for name in sorted(forms, key=lambda name: (-forms[name][0].itemsize, name)):
        dtype, shape = forms[name]
        begins[name] = end
        end += math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _FORMATS[dtype],
            "shape": list(shape),
            "data_offsets": [begins[name], end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    # Whoever has the old file in memory, as a model that was loaded from it, keeps it.
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for name, tensor in tensors:
            assert (tensor.dtype, tuple(tensor.shape)) == (forms[name][0], tuple(forms[name][1]))
            file.seek(_LENGTH_BYTES + len(text) + begins.pop(name))
            # numpy has no bfloat16, so the bytes are written as uint8.
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
        assert not begins, f"tensors are missing: {', '.join(begins)}"
        file.truncate(_LENGTH_BYTES + len(text) + end)
