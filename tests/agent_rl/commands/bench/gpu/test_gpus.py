import pytest

from agent_rl.commands.bench.gpu.gpus import GPUS, gpu_named, gpu_seen
from agent_rl.config import ConfigError


def test_the_figures_of_a_data_sheet() -> None:
    h100 = gpu_named("h100")
    assert (h100.memory_gib, h100.bandwidth) == (80, 3.35e12)
    assert (h100.bfloat16, h100.float32) == (989e12, 67e12)
    # No mistaken unit: tensor cores are faster than float32, and a byte takes many operations.
    for gpu in GPUS.values():
        assert 1.5 < gpu.bfloat16 / gpu.float32 < 20.0
        assert 100.0 < gpu.bfloat16 / gpu.bandwidth < 500.0


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("Tesla T4", None),
    ],
)
def test_a_gpu_is_known_by_the_name_that_cuda_gives_it(seen: str, name: str | None) -> None:
    assert gpu_seen(seen) is (None if name is None else GPUS[name])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--gpu 'h10': .*did you mean 'h100'"):
        gpu_named("h10")
