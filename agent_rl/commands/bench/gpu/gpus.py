"""GPUs by name, with the figures of their makers' data sheets. Light to import."""

from dataclasses import dataclass

from agent_rl.config import ConfigError
from envs.nearest import hint


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU. Speeds are of dense matrix products, without sparsity."""

    title: str
    """Its name in a table."""
    memory_gib: float
    """Its memory. Data sheets say GB; what programs see is near this number of GiB."""
    bandwidth: float
    """Bytes a second from and to its memory."""
    bfloat16: float
    """Operations a second of bfloat16 products with float32 sums."""
    float32: float
    """Operations a second in float32, without tensor cores."""
    seen_as: str
    """A part of the name that CUDA gives it."""


def _gpu(
    title: str, memory: float, terabytes: float, bfloat16: float, float32: float, seen_as: str
) -> Gpu:
    """A row of the table: GiB, TB/s, TFLOP/s and TFLOP/s."""
    return Gpu(
        title=title,
        memory_gib=memory,
        bandwidth=1e12 * terabytes,
        bfloat16=1e12 * bfloat16,
        float32=1e12 * float32,
        seen_as=seen_as,
    )


GPUS: dict[str, Gpu] = {
    "a100-40": _gpu("A100 SXM 40 GB", 40, 1.555, 312, 19.5, "A100-SXM4-40GB"),
    "a100": _gpu("A100 SXM 80 GB", 80, 2.039, 312, 19.5, "A100-SXM4-80GB"),
    "h100-pcie": _gpu("H100 PCIe 80 GB", 80, 2.0, 756, 51, "H100 PCIe"),
    "h100": _gpu("H100 SXM 80 GB", 80, 3.35, 989, 67, "H100 80GB"),
    "h200": _gpu("H200 SXM 141 GB", 141, 4.8, 989, 67, "H200"),
    "l40s": _gpu("L40S 48 GB", 48, 0.864, 362, 91.6, "L40S"),
    "rtx4090": _gpu("RTX 4090 24 GB", 24, 1.008, 165, 82.6, "RTX 4090"),
}
"""The GPUs by their names on the command line."""


def gpu_named(name: str) -> Gpu:
    """Return a GPU of the table.

    Raises:
        ConfigError: it has none of this name.
    """
    if name not in GPUS:
        raise ConfigError(f"--gpu {name!r}: is not in the table{hint(name, GPUS, label='known')}")
    return GPUS[name]


def gpu_seen(device_name: str) -> Gpu | None:
    """Return the GPU that CUDA calls so; None if the table lacks it."""
    return next((gpu for gpu in GPUS.values() if gpu.seen_as in device_name), None)
