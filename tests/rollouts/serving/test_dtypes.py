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


def test_auto_follows_the_device_and_anything_else_is_kept() -> None:
    assert chosen_dtype("auto", gpu=True) == "bfloat16"
    assert chosen_dtype("auto", gpu=False) == ("bfloat16" if cpu_has_bfloat16() else "float32")
    for given in ("float32", "bfloat16", "float16"):
        assert chosen_dtype(given, gpu=True) == chosen_dtype(given, gpu=False) == given
