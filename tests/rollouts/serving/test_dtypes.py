from pathlib import Path

import pytest

from rollouts.serving.dtypes import chosen_dtype, cpu_has_bfloat16


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512bw avx512_vnni", False),
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("model name\t: a CPU with bf16 in its name", False),
    ],
)
def test_a_cpu_says_whether_it_multiplies_bfloat16(
    line: str, expected: bool, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert cpu_has_bfloat16(cpuinfo) is expected


def test_a_system_that_does_not_say_is_taken_to_have_none(tmp_path: Path) -> None:
    assert not cpu_has_bfloat16(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("setting", "gpu", "flags", "expected"),
    [
        ("auto", True, "fpu", "bfloat16"),
        ("auto", False, "fpu", "float32"),
        ("auto", False, "fpu amx_bf16", "bfloat16"),
        ("float32", True, "amx_bf16", "float32"),
        ("bfloat16", False, "fpu", "bfloat16"),
        ("float16", False, "fpu", "float16"),
    ],
)
def test_auto_follows_the_device_and_anything_else_is_kept(
    setting: str, gpu: bool, flags: str, expected: str, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: {flags}\n")
    assert chosen_dtype(setting, gpu=gpu, cpuinfo=cpuinfo) == expected
