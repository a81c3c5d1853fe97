"""A sweep whose comparison can be worked out by hand."""

from pathlib import Path

import pytest

from tests.builders.comparisons import alfworld_games, write_alfworld_run, write_evaluation


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two objectives with two seeds each on eight games, and their start.

    The first objective wins 6 and 7 games, the second 1 and 0.
    """
    write_alfworld_run(tmp_path / "sweep/gmpo-s0", "gmpo", 0, won="11111100")
    write_alfworld_run(tmp_path / "sweep/gmpo-s1", "gmpo", 1, won="11111110")
    write_alfworld_run(tmp_path / "sweep/grpo-s0", "grpo", 0, won="00000001")
    write_alfworld_run(tmp_path / "sweep/grpo-s1", "grpo", 1, won="00000000", steps=5)
    write_evaluation(tmp_path / "sweep/start/evaluations/final.json", alfworld_games("10000000"))
    return tmp_path / "sweep"
