"""The real trackio with its local store, in the processes of a run that is resumed."""

import json
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent_rl.config import load_run_config
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trackers.follower import Told
from agent_rl.runs.trackers.running import RunningTrackers
from tests.builders.tracked_runs import evaluate_step, log_step, play_step, tracked_stage

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        find_spec("trackio") is None, reason="trackio is not installed: pip install trackio"
    ),
]


def track(stage: StageLayout, *, complete: bool) -> None:
    """Tell trackio all that is new, as a run does that ends at once."""
    RunningTrackers(stage, load_run_config(stage.config_file)).close(complete=complete)


def test_a_resumed_run_is_one_run_with_each_step_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("TRACKIO_DIR", str(store))
    stage = tracked_stage(tmp_path / "mine", steps=3, trackers="trackio", finish_seconds=60.0)
    evaluate_step(stage, 2)
    play_step(stage, 1)
    track(stage, complete=False)
    # Step 3 was after the checkpoint: it is cut, repeated, and told already.
    stage.metrics_file.write_text("".join(stage.metrics_file.read_text().splitlines(True)[:2]))
    for step in (3, 4):
        log_step(stage, step)
    track(stage, complete=True)
    assert capsys.readouterr().out == ""

    with sqlite3.connect(store / "agent_rl.db") as read:
        rows = read.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        ((config,),) = read.execute("SELECT config FROM configs").fetchall()
    name = Told.read(stage, "trackio").run_id
    assert name.startswith("mine-")
    assert {run for run, _, _ in rows} == {name}
    told = [(step, json.loads(metrics)) for _, step, metrics in rows]
    by_name = {name: step for step, values in told for name in values}
    success = [(step, v["rollout/success"]) for step, v in told if "rollout/success" in v]
    assert success == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert by_name["evaluation/valid_seen/success"] == by_name["tables/evaluation"] == 2
    episodes = next(v["tables/episodes"]["_value"] for _, v in told if "tables/episodes" in v)
    assert [row["ending"] for row in episodes] == ["success", "max_turns", "success", "max_turns"]
    assert "A <b>room</b>." in episodes[0]["text"]
    assert json.loads(config)["stage"] == "train"
