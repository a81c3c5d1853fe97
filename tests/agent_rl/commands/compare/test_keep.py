"""Copies of the small files of runs, by the command's own function."""

from pathlib import Path

import pytest

from agent_rl.commands.compare.report import compare_folders
from agent_rl.config import ConfigError
from tests.builders.comparisons import alfworld_games, write_alfworld_run, write_evaluation


@pytest.mark.process
def test_kept_files_make_the_same_comparison(sweep: Path, tmp_path: Path) -> None:
    (sweep / "gmpo-s0/train/checkpoints").mkdir()
    (sweep / "gmpo-s0/train/checkpoints/weights").write_text("large")
    write_evaluation(
        sweep / "gmpo-s0/train/evaluations/step-000004.json", alfworld_games("11110000")
    )
    (sweep / "gmpo-s0/attempts.jsonl").write_text("{}\n")
    compare_folders([sweep], kept=tmp_path / "kept")
    kept = tmp_path / "kept"
    assert sorted(
        str(file.relative_to(kept / "gmpo-s0"))
        for file in kept.glob("gmpo-s0/**/*")
        if file.is_file()
    ) == [
        "attempts.jsonl",
        "evaluations/final.json",
        "train/config.yaml",
        "train/evaluations/step-000004.json",
        "train/metrics.jsonl",
    ]
    assert [str(file.relative_to(kept)) for file in kept.glob("start/**/*.json")] == [
        "start/evaluations/final.json"
    ]
    assert compare_folders([kept]) == kept
    for name in ("comparison.md", "comparison.json"):
        assert (kept / name).read_text() == (sweep / name).read_text()
    (sweep / "comparison.md").unlink()
    with pytest.raises(
        ConfigError, match=r"--keep .*kept: .*gmpo-s0 exists already; name another folder"
    ):
        compare_folders([sweep], kept=kept)
    assert not (sweep / "comparison.md").exists()


def test_runs_of_several_sweeps_are_not_kept_in_one_folder(sweep: Path, tmp_path: Path) -> None:
    write_alfworld_run(tmp_path / "other/rloo-s0", "rloo", 0, won="11111100")
    write_evaluation(tmp_path / "other/start/evaluations/final.json", alfworld_games("10000000"))
    with pytest.raises(
        ConfigError, match=r"--keep .*kept: these are runs of several folders, .* one by one"
    ):
        compare_folders([sweep, tmp_path / "other"], to=tmp_path / "to", kept=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
