"""From run folders to Markdown, JSON and pictures, by the command's own function."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from agent_rl.commands.compare import figures as compare_figures
from agent_rl.commands.compare.cli import compare as compare_command
from agent_rl.commands.compare.comparison import compare
from agent_rl.commands.compare.report import compare_folders
from agent_rl.commands.compare.runs import NEEDED, find_runs
from agent_rl.commands.compare.tables import Grid
from agent_rl.config import Config, ConfigError, dump_config

FAMILY = "look_at_obj_in_light"


def write_run(
    path: Path, objective: str, seed: int, *, won: str, steps: int = 8, env: str = "alfworld"
) -> None:
    """A run of 8 rollout steps, evaluated at the end (`won`: a 1 or a 0 for each game)."""
    (path / "train").mkdir(parents=True)
    (path / "evaluations").mkdir()
    sections = {
        "learner": {"objective": objective},
        "train": {"rollout_steps": 8},
        "env": {"id": env},
    }
    config = Config.model_validate({"run_folder": str(path), "seed": seed, **sections})
    (path / "train" / "config.yaml").write_text(dump_config(config))
    lines = [
        {"step": n, **dict.fromkeys(NEEDED, n / 10), "time/seconds": 60.0}
        for n in range(1, steps + 1)
    ]
    (path / "train" / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    write_evaluation(path / "evaluations" / "final.json", won)


def write_evaluation(path: Path, won: str) -> None:
    games = [
        {"id": f"g{i}", "family": FAMILY, "success": [bit == "1"], "turns": [3]}
        for i, bit in enumerate(won)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"version": 2, "setting": {}, "splits": {"valid_seen": {"games": games}}})
    )


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two objectives with two seeds each on eight games: 6 and 7 of them against 1 and 0; and their
    start.
    """
    write_run(tmp_path / "sweep/gmpo-s0", "gmpo", 0, won="11111100")
    write_run(tmp_path / "sweep/gmpo-s1", "gmpo", 1, won="11111110")
    write_run(tmp_path / "sweep/grpo-s0", "grpo", 0, won="00000001")
    write_run(tmp_path / "sweep/grpo-s1", "grpo", 1, won="00000000", steps=5)
    write_evaluation(tmp_path / "sweep/start/evaluations/final.json", "10000000")
    return tmp_path / "sweep"


def rows_of(page: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if "|" in line
    ][2:]


def test_kept_files_make_the_same_comparison(sweep: Path, tmp_path: Path) -> None:
    (sweep / "gmpo-s0/train/checkpoints").mkdir()
    (sweep / "gmpo-s0/train/checkpoints/weights").write_text("large")
    write_evaluation(sweep / "gmpo-s0/train/evaluations/step-000004.json", "11110000")
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
    write_run(tmp_path / "other/rloo-s0", "rloo", 0, won="11111100")
    write_evaluation(tmp_path / "other/start/evaluations/final.json", "10000000")
    with pytest.raises(
        ConfigError, match=r"--keep .*kept: these are runs of several folders, .* one by one"
    ):
        compare_folders([sweep, tmp_path / "other"], to=tmp_path / "to", kept=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


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


def test_the_files_are_the_same_each_time_and_from_a_copy(sweep: Path, tmp_path: Path) -> None:
    compare_folders([sweep], to=tmp_path / "one")
    copy = sweep.rename(tmp_path / "elsewhere")
    compare_folders([copy], to=tmp_path / "two")
    names = ["comparison.json", "comparison.md", "curves.png", "mechanism.png"]
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_runs_by_name_are_compared_beside_the_first(sweep: Path) -> None:
    assert compare_folders([sweep / "grpo-s0", sweep / "gmpo-s0"]) == sweep / "comparison"
    page = (sweep / "comparison/comparison.md").read_text()
    assert page.startswith("# Comparison: grpo, gmpo\n")
    assert rows_of(page, "Success over seeds, valid_seen")[0] == ["grpo", "0: 12.5", "12.5", ""]


def test_the_pictures_are_pictures(sweep: Path) -> None:
    from matplotlib.image import imread

    compare_folders([sweep])
    for name, panels in {"curves.png": 2, "mechanism.png": 3}.items():
        height, width, _ = imread(sweep / name).shape
        assert width > 400 * panels
        assert height > 400


def test_the_curves_are_those_of_the_variants(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Sequence[Any]] = []
    monkeypatch.setattr(compare_figures, "_finish", lambda figure, axes, path: drawn.append(axes))
    compare_figures.draw_curves(compare(find_runs([sweep])), tmp_path / "curves.png")
    ((training, held_out),) = drawn
    lines = {line.get_label(): line.get_xydata().tolist() for line in held_out.get_lines()}
    # All begin with the start, which wins one game of eight; only one of grpo's seeds came to its
    # last step.
    assert lines["gmpo"] == [[0, 12.5], [8, 81.25]]
    assert lines["grpo"] == [[0, 12.5]]
    thin = [
        line.get_xydata().tolist()
        for line in held_out.get_lines()
        if line.get_label().startswith("_")
    ]
    assert thin == [
        [[0, 12.5], [8, 75]],
        [[0, 12.5], [8, 87.5]],
        [[0, 12.5], [8, 12.5]],
        [[0, 12.5], [5, 0]],
    ]
    lines = {line.get_label(): line.get_xydata().tolist() for line in training.get_lines()}
    assert lines["gmpo"][:2] == [[1, pytest.approx(10)], [2, pytest.approx(15)]]
    assert len(lines["gmpo"]) == 8
    assert len(lines["grpo"]) == 5


def test_nothing_is_written_where_something_is_wrong(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such row"):
        compare_folders([sweep], to=tmp_path / "to", references=["nothing"])
    assert not (tmp_path / "to").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: a file; name a folder"):
        compare_folders([sweep], to=tmp_path / "file")


def test_one_run_without_an_evaluation(sweep: Path) -> None:
    (sweep / "gmpo-s0/evaluations/final.json").unlink()
    compare_folders([sweep / "gmpo-s0"])
    page = (sweep / "comparison/comparison.md").read_text()
    assert "- gmpo-s0: no evaluation\n" in page
    assert "Paired" not in page
    assert rows_of(page, "Runs")[0][3] == "none"


def test_a_table_in_markdown() -> None:
    grid = Grid(title="t", heads=("a", "b", "c"), rows=[("x|y", "1", "2")], page_only=(1,))
    assert grid.markdown() == "| a | b | c |\n| --- | ---: | ---: |\n| x\\|y | 1 | 2 |"
    assert [column.header for column in grid.table().columns] == ["a", "c"]


# The command


def invoke(*arguments: Any) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(compare_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command(sweep: Path, tmp_path: Path) -> None:
    shown = invoke(
        sweep,
        "--to",
        tmp_path / "to",
        "--split",
        "valid_seen",
        "--label",
        "G=gmpo-*",
        "--against",
        "G",
    )
    assert shown.exit_code == 0, shown.output
    page = (tmp_path / "to" / "comparison.md").read_text()
    assert page.startswith("# Comparison: G, grpo\n")
    assert rows_of(page, "Paired over all seeds, valid_seen")[0][0] == "grpo - G"
    assert f"written to {tmp_path / 'to'}: comparison.md" in shown.output
    assert "note: grpo-s1: unfinished: 5 of 8 rollout steps" in shown.output


def test_the_command_for_a_split_that_is_not_there(sweep: Path) -> None:
    refused = invoke(sweep, "--split", "valid_unseen")
    assert isinstance(refused.exception, ConfigError)
    assert str(refused.exception).startswith(
        "--split valid_unseen: not in final.json, the final evaluation of gmpo-s0"
    )


def test_the_command_without_paired_tests(sweep: Path, tmp_path: Path) -> None:
    write_evaluation(sweep / "gmpo-s0/evaluations/final.json", "111111000")
    refused = invoke(sweep, "--to", tmp_path / "to")
    assert isinstance(refused.exception, ConfigError)
    assert "in one only, 'g8' for example" in str(refused.exception)
    assert invoke(sweep, "--to", tmp_path / "to", "--unpaired").exit_code == 0
    assert "Paired" not in (tmp_path / "to" / "comparison.md").read_text()


@pytest.mark.parametrize("label", ["gmpo", "=x", "x="])
def test_a_label_is_a_name_and_a_glob(sweep: Path, label: str) -> None:
    refused = invoke(sweep, "--label", label)
    assert isinstance(refused.exception, ConfigError)
    assert "write NAME=GLOB" in str(refused.exception)


def test_references_need_alfworld(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "gmpo", 0, won="10", env="taxi")
    refused = invoke(tmp_path / "run", "--reference", "grpo-1.5b")
    assert "these runs are of taxi" in str(refused.exception)
