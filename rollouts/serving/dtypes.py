"""Chooses the number format that suits a device. Light to import: no torch."""

from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_FLAGS_KEYS = ("flags", "Features")
"""The line of a processor's abilities: on x86, and on ARM."""
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux's names of products of bfloat16: two of x86, the last of ARM."""


def chosen_dtype(setting: str, *, gpu: bool, cpuinfo: Path = _CPUINFO) -> str:
    """Return the dtype that `setting` means on this machine.

    `auto` is bfloat16 if the device multiplies it in hardware, else float32. A CPU without such
    instructions emulates bfloat16 and is half as fast with it as with float32. Any other setting is
    returned unchanged.

    Args:
        cpuinfo: the file in which Linux describes the processors.
    """
    if setting != "auto":
        return setting
    return "bfloat16" if gpu or cpu_has_bfloat16(cpuinfo) else "float32"


@cache
def cpu_has_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware; False if the system does not say."""
    if not cpuinfo.is_file():
        return False
    for line in cpuinfo.read_text().splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in _FLAGS_KEYS and not _BFLOAT16_FLAGS.isdisjoint(flags.split()):
            return True
    return False
