import json
import math
from pathlib import Path

import pytest
import torch

from agent_rl.commands.bench.weights import bench_weights, token_weights, weight_curve
from agent_rl.objective.presets import PRESETS, ObjectiveName


def weights(name: ObjectiveName, log_ratios: list[float], advantage: float) -> list[float]:
    (row,) = token_weights(
        name, torch.tensor([log_ratios], dtype=torch.float64), advantage
    ).tolist()
    return [float(weight) for weight in row]


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("advantage", [2.0, -0.5])
def test_on_policy_every_weight_is_1(name: ObjectiveName, advantage: float) -> None:
    assert weights(name, [0.0, 0.0, 0.0], advantage) == pytest.approx([1.0] * 3)


def test_weights_by_hand() -> None:
    both = math.exp((0.1 - 0.3) / 2)
    assert weights("gmpo", [0.1, -0.3], 1.0) == pytest.approx([both] * 2)
    assert weights("gspo", [0.1, -0.3], 1.0) == pytest.approx([both] * 2)
    assert weights("grpo", [0.1, -0.3], 1.0) == pytest.approx([math.exp(0.1), math.exp(-0.3)])
    # Beyond the bound, GMPO's outlier loses its own gradient and stays in the mean, at the bound.
    assert weights("gmpo", [1.0, -0.3], 1.0) == pytest.approx([0.0, math.exp((0.4 - 0.3) / 2)])
    assert weights("gspo", [1.0, -0.3], 1.0) == [0.0, 0.0]
    assert weights("grpo", [1.0, -0.3], 1.0) == pytest.approx([0.0, math.exp(-0.3)])
    assert weights("cispo", [3.0, -0.3], 1.0) == pytest.approx([5.0, math.exp(-0.3)])
    # A negative advantage leaves the upper side open.
    assert weights("gmpo", [3.0, -0.3], -1.0) == pytest.approx([math.exp(2.7 / 2)] * 2)
    assert weights("grpo", [3.0, -0.1], -1.0) == pytest.approx([math.exp(3.0), math.exp(-0.1)])


def test_episodes_do_not_mix() -> None:
    rows = torch.tensor([[0.1, -0.3], [1.0, 0.2]], dtype=torch.float64)
    together = token_weights("gmpo", rows, 1.0).tolist()
    assert together == [pytest.approx(weights("gmpo", row, 1.0)) for row in rows.tolist()]


def test_one_outlier_moves_gmpo_by_its_share_of_the_mean() -> None:
    gmpo, grpo = (weight_curve(name, -1.0, [0.0, 3.0]) for name in ("gmpo", "grpo"))
    assert gmpo.outlier == gmpo.ordinary
    assert gmpo.outlier[1] / gmpo.outlier[0] == pytest.approx(math.exp(3.0 / 51))
    assert grpo.outlier == pytest.approx([1.0, math.exp(3.0)])
    assert grpo.ordinary[0] == grpo.ordinary[1]


@pytest.mark.process
def test_the_picture_and_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png, record = tmp_path / "new" / "weights.png", tmp_path / "weights.json"
    bench_weights(png_file=png, json_file=record)
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert png.stat().st_size < 150_000
    curves = json.loads(record.read_text())
    assert {(one["objective"], one["advantage"]) for one in curves} == {
        (name, sign) for name in ("gmpo", "grpo", "gspo", "cispo") for sign in (1.0, -1.0)
    }
    assert all(
        len(one["log_ratio"]) == len(one["outlier"]) == len(one["ordinary"]) for one in curves
    )
    assert "20.086" in capsys.readouterr().out
