"""The real W&B, offline. Its file of records is read back with W&B's own types."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_rl.runs.trackers.tables import evaluation_table
from agent_rl.runs.trackers.wandb_tracker import WandbTracker
from tests.builders.runs import report
from tests.builders.tracked_runs import described

wandb = pytest.importorskip("wandb", reason="W&B is not installed: pip install wandb")
pytestmark = pytest.mark.process

_HEAD, _BLOCK = 7, 32768


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)


def records(path: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format, with a head of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), _HEAD, b""
    while place + 7 <= len(data):
        if _BLOCK - place % _BLOCK < 7:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row = {}
            for item in record.history.item:
                name = item.key or ".".join(item.nested_key)
                row[name] = json.loads(item.value_json)
            rows.append({"step": record.history.step.num, **row})
    return rows


def test_a_run_offline_has_the_metrics_the_table_and_the_config(tmp_path: Path) -> None:
    tracker = WandbTracker(described(tmp_path))
    for step in (1, 2):
        tracker.log(step, {"rollout/success": step / 10, "learner/loss": 0.0})
    tracker.table(2, evaluation_table(report()))
    tracker.finish(complete=True)
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert file.name == f"run-{tracker.run_id}.wandb"
    rows = history(file)
    assert [(row["step"], row["rollout/success"]) for row in rows] == [(1, 0.1), (2, 0.2)]
    assert rows[0]["learner/loss"] == 0.0
    runs = [r.run for r in records(file) if r.WhichOneof("record_type") == "run"]
    described_as = (runs[0].project, runs[0].display_name, runs[0].run_group, runs[0].job_type)
    assert described_as == ("agent_rl", "r", "r", "train")
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["learner.objective"] == "gmpo"
    (table,) = file.parent.rglob("*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"][:4] == ["split", "family", "n", "success"]
    assert content["data"][-1][:4] == ["valid_seen", "all", 2, 0.5]


def test_a_resumed_run_has_the_id_of_before(tmp_path: Path) -> None:
    first = WandbTracker(described(tmp_path))
    first.log(1, {"a": 1.0})
    first.finish(complete=False)
    again = WandbTracker(described(tmp_path, first.run_id))
    again.log(2, {"a": 2.0})
    again.finish(complete=True)
    rows = []
    for file in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        assert file.name == f"run-{first.run_id}.wandb"
        rows += history(file)
    assert [(row["step"], row["a"]) for row in rows] == [(1, 1.0), (2, 2.0)]
