"""The report's JSON: written, read again, of another version, damaged."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import ConfigError
from agent_rl.evaluation.report import is_report, read_report, read_stage_reports, report_of
from tests.builders.paths import ROOT
from tests.builders.runs import report

TWO_SPLITS = report({"a": {"pick0": [True]}, "b": {"pick0": [True], "pick1": [False]}})


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    TWO_SPLITS.write(tmp_path / "deep" / "r.json")
    assert read_report(tmp_path / "deep" / "r.json") == TWO_SPLITS
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "deep" / "other.json")
    TWO_SPLITS.write(link)
    assert link.is_symlink()
    assert read_report(tmp_path / "deep" / "other.json") == TWO_SPLITS
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        received = pool.submit(pipe.read_text)
        TWO_SPLITS.write(pipe)
        assert received.result(timeout=10) == (tmp_path / "deep" / "r.json").read_text()
    record = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert set(record) == {"version", "setting", "splits", "gap"}
    assert record["version"] == 2
    assert record["splits"]["a"]["games"][0] == {
        "id": "pick0",
        "family": "pick",
        "success": [True],
        "turns": [1],
    }
    assert set(record["splits"]["a"]["overall"]) == {
        "n",
        "repeats",
        "successes",
        "success",
        "interval",
        "per_repeat",
        "mean_turns",
        "turns_to_success",
        "invalid_action_rate",
        "tokens_per_episode",
        "agent_tokens_per_episode",
        "truncated_action_rate",
    }


def without_interval(record: dict[str, Any]) -> None:
    del record["splits"]["a"]["overall"]["interval"]


def of_the_first_version(record: dict[str, Any]) -> None:
    record.clear()
    record.update(overall={}, families={})


def with_a_game_twice(record: dict[str, Any]) -> None:
    record["splits"]["b"]["games"] *= 2


def of_the_next_version(record: dict[str, Any]) -> None:
    record["version"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without_interval,
            r"is no evaluation report \(splits\.a\.overall\.interval: Field required\); "
            "evaluate again",
        ),
        (of_the_first_version, "is a report of version 1, and this is version 2; evaluate again"),
        (of_the_next_version, "is a report of version 3, and this is version 2; evaluate again"),
        (dict.clear, "is no evaluation report; evaluate again"),
        (with_a_game_twice, "splits.b: game 'pick0' is listed twice; evaluate again"),
    ],
)
def test_another_version_and_damage_are_named(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    record = json.loads(json.dumps(TWO_SPLITS.record()))
    assert report_of(record) == TWO_SPLITS
    change(record)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        read_report(path)
    has_splits = change not in (of_the_first_version, dict.clear)
    assert is_report(path) is has_splits, "a report that is there counts, readable or not"


def test_renamed_options_are_read_under_their_present_names(tmp_path: Path) -> None:
    options = {"renamed": 5, "expert": True}
    path = tmp_path / "r.json"
    report(env="alfworld", env_options=options).write(path)
    present = read_report(path).setting["env_options"]
    assert present == {"entity_permutations": 5, "expert": True}
    report(env="taxi", env_options=options).write(path)
    assert read_report(path).setting["env_options"] == options


def test_a_torn_report_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"version": 2, "splits')
    with pytest.raises(
        ConfigError, match=rf"^{path}: is no evaluation report \(.*\); evaluate again"
    ):
        read_report(path)
    with pytest.raises(
        ConfigError, match=r"nothing.json: is no evaluation report \(.*No such file"
    ):
        read_report(tmp_path / "nothing.json")
    assert not is_report(path)
    assert not is_report(tmp_path / "nothing.json")


def test_every_committed_report_can_be_read() -> None:
    """They were written by earlier versions of the code."""
    paths = sorted((ROOT / "docs" / "results").rglob("evaluations/*.json"))
    assert len(paths) > 20
    for path in paths:
        assert is_report(path), path
        assert read_report(path).splits


def test_the_step_of_the_checkpoint_that_was_evaluated() -> None:
    checkpoint = "runs/a/train/checkpoints/step-000050"
    assert report(model=checkpoint).checkpoint_step == 50
    assert report(model=f"{checkpoint}/model").checkpoint_step == 50
    for other in ("runs/a/sft/model", "expert", "step-000050"):
        assert report(model=other).checkpoint_step is None
    assert report().checkpoint_step is None


def test_the_reports_of_a_demo(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    record = report().record()
    path.write_text(json.dumps({"stages": {"init": record, "gmpo": record}}))
    reports = read_stage_reports(path)
    assert list(reports) == ["init", "train"], "earlier versions called the last stage gmpo"
    assert reports["train"] == report()
    path.write_text(json.dumps({"stages": {"init": {}}}))
    with pytest.raises(ConfigError, match=f"^{path}: is no evaluation report"):
        read_stage_reports(path)
    path.write_text("[]")
    with pytest.raises(ConfigError, match=f"^{path}: has no stages"):
        read_stage_reports(path)


def test_a_notebook_shows_a_table_per_split_and_the_gap() -> None:
    html = report(
        {"seen": {"pick1": [True], "put1": [False]}, "new": {"pick2": [True]}}, model="<m>"
    )._repr_html_()
    assert html.count("<table") == 3
    assert "&lt;m&gt; on seen" in html
    assert "seen - new, in points" in html
    assert ">50.0<" in html
    assert ">9.5-90.5<" in html
    assert "<m>" not in html
    assert report()._repr_html_().count("<table") == 1
