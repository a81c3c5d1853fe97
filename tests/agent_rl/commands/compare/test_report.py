"""From run folders to Markdown and JSON, by the command's own function."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.compare.report import compare_folders
from agent_rl.config import ConfigError
from tests.builders.comparisons import FAMILY, rows_of


@pytest.mark.process
def test_the_page(sweep: Path) -> None:
    assert compare_folders([sweep], references=["grpo-1.5b"]) == sweep
    page = (sweep / "comparison.md").read_text()
    assert page.startswith(
        "# Comparison: gmpo, grpo\n\n- grpo-s1: unfinished: 5 of 8 rollout steps\n"
    )
    assert rows_of(page, "Runs")[0] == ["gmpo-s0", "gmpo", "8", "final, 8", "45.0", "8.0", "216"]
    assert rows_of(page, "Runs")[3][2:4] == ["5 of 8, unfinished", "final, 5"]
    everything, family = rows_of(page, "Success on valid_seen, % (95 % interval by game)")
    assert everything[:3] == ["all", "8", "81.2 (56.2 - 100.0)"]
    assert everything[3:] == ["6.2 (0.0 - 18.8)", "12.5 (2.2 - 47.1)", "72.8"]
    assert (family[0], family[-1]) == (FAMILY, "53.7")
    seeds = rows_of(page, "Success over seeds, valid_seen")
    assert seeds[0] == ["gmpo", "0: 75.0, 1: 87.5", "81.2", "range 75.0 to 87.5"]
    assert seeds[1][0] == "grpo (unfinished)"
    (pair,) = rows_of(page, "Paired over all seeds, valid_seen")
    # Differences by game: 1 (six times), 1/2, -1/2, in all 6. Of 2^8 choices of signs, 7 is reached
    # by one, 6 by two.
    assert pair[:3] == ["gmpo - grpo", "8", "+75.0"]
    assert pair[4:6] == [f"{2 * 3 / 256:.3f}"] * 2
    # Over seeds: both sides spread by 12.5 points, so the difference has an error of 12.5 / sqrt(2)
    # and 2 degrees of freedom, for which Student's t is 4.303: 75.0 +- 38.0. Its p for t = 8.49 is
    # then 1 - t / sqrt(t^2 + 2).
    assert pair[6:] == ["+37.0 to +113.0", "0.014"]
    first, second = rows_of(page, "Paired seed by seed, valid_seen")
    assert first == ["gmpo - grpo", "0", "+62.5", "6", "1", "0.125", "0.125"]
    assert second == ["gmpo - grpo", "1", "+87.5", "7", "0", "0.016", "0.031"]
    entropy = next(row for row in rows_of(page, "The mechanism") if row[:2] == ["entropy", "gmpo"])
    same = "range {0} to {0}"
    assert entropy[2:] == [
        "0.45",
        same.format("0.45"),
        "0.15",
        "0.75",
        "+0.6",
        same.format("+0.6"),
        "0.0707",
    ]
    assert "(gmpo: log -0.4, +0.4; grpo: ratio -0.2, +0.2)" in page
    assert "arXiv 2505.10978" in page


def test_the_numbers(sweep: Path) -> None:
    compare_folders([sweep], references=["grpo-1.5b"])
    values = json.loads((sweep / "comparison.json").read_text())
    assert (values["version"], values["splits"], values["env"]) == (1, ["valid_seen"], "alfworld")
    gmpo, grpo = values["variants"]
    assert gmpo["scores"]["valid_seen"]["all"]["over_seeds"]["seeds"] == {"0": 0.75, "1": 0.875}
    assert grpo["runs"][1]["steps"] == 5
    assert values["tests"]["valid_seen"][0]["difference"] == 0.75
    assert values["starts"]["start"]["valid_seen"]["all"]["success"] == 0.125
    assert gmpo["held_out"]["valid_seen"]["seeds"] == {
        "0": {"0": 0.125, "8": 0.75},
        "1": {"0": 0.125, "8": 0.875},
    }
    assert values["references"][0]["name"] == "grpo-1.5b"


@pytest.mark.process
def test_the_files_are_the_same_each_time_and_from_a_copy(sweep: Path, tmp_path: Path) -> None:
    compare_folders([sweep], to=tmp_path / "one")
    copy = sweep.rename(tmp_path / "elsewhere")
    compare_folders([copy], to=tmp_path / "two")
    names = ["comparison.json", "comparison.md", "curves.png", "mechanism.png"]
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_comparison_of_named_runs_is_next_to_the_first(sweep: Path) -> None:
    assert compare_folders([sweep / "grpo-s0", sweep / "gmpo-s0"]) == sweep / "comparison"
    page = (sweep / "comparison/comparison.md").read_text()
    assert page.startswith("# Comparison: grpo, gmpo\n")
    assert rows_of(page, "Success over seeds, valid_seen")[0] == ["grpo", "0: 12.5", "12.5", ""]


def test_nothing_is_written_where_something_is_wrong(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such row"):
        compare_folders([sweep], to=tmp_path / "to", references=["nothing"])
    assert not (tmp_path / "to").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: a file; name a folder"):
        compare_folders([sweep], to=tmp_path / "file")


@pytest.mark.process
def test_one_run_without_an_evaluation(sweep: Path) -> None:
    (sweep / "gmpo-s0/evaluations/final.json").unlink()
    compare_folders([sweep / "gmpo-s0"])
    page = (sweep / "comparison/comparison.md").read_text()
    assert "- gmpo-s0: no evaluation\n" in page
    assert "Paired" not in page
    assert rows_of(page, "Runs")[0][3] == "none"
