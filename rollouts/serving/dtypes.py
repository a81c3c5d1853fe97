"""Which number format a device is quick in. Light to import: no torch."""

from functools import cache
from pathlib import Path

_CPU = Path("/proc/cpuinfo")
_FLAGS_KEYS = ("flags", "Features")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names them: two of x86, the last of ARM."""


def chosen_dtype(setting: str, *, gpu: bool) -> str:
    """What `dtype: auto` stands for: bfloat16 where the device multiplies it in hardware, float32
    elsewhere.

    A CPU without such instructions imitates bfloat16, and is half as fast with it as with float32.
    Any other setting is returned as it is.
    """
    if setting != "auto":
        return setting
    return "bfloat16" if gpu or cpu_has_bfloat16() else "float32"


@cache
def cpu_has_bfloat16(cpuinfo: Path = _CPU) -> bool:
    """Whether the CPU has instructions for products of bfloat16; False where the system does not
    say.
    """
    if not cpuinfo.is_file():
        return False
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    return any(
        not _BFLOAT16_FLAGS.isdisjoint(flags.split())
        for key, _, flags in lines
        if key.strip() in _FLAGS_KEYS
    )
