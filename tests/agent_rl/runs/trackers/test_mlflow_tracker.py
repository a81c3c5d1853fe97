"""The real MLflow with a store in SQLite, read back with its client."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_rl.runs.trackers.mlflow_tracker import MlflowTracker
from agent_rl.runs.trackers.tables import evaluation_table
from tests.builders.runs import report
from tests.builders.tracked_runs import described

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
pytest.importorskip("sqlalchemy", reason="mlflow-skinny has no SQLite store: pip install mlflow")
pytestmark = pytest.mark.process


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Files of a run go to `mlruns` beside the store.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    return mlflow.MlflowClient()


def test_a_run_has_the_metrics_the_table_and_the_config(client: Any, tmp_path: Path) -> None:
    tracker = MlflowTracker(described(tmp_path))
    for step in (1, 2):
        tracker.log(step, {"rollout/success": step / 10, "learner/turns_1_10/clip": 0.5})
    tracker.finish(complete=False)
    killed = client.get_run(tracker.run_id)
    assert (killed.info.status, killed.info.run_name) == ("KILLED", "r")
    assert killed.data.tags["stage"] == "train"
    assert killed.data.params["learner.objective"] == "gmpo"

    again = MlflowTracker(described(tmp_path, tracker.run_id))
    assert client.get_run(again.run_id).info.status == "RUNNING"
    again.log(3, {"rollout/success": 0.3})
    again.table(3, evaluation_table(report()))
    again.finish(complete=True)
    assert again.run_id == tracker.run_id
    assert client.get_run(again.run_id).info.status == "FINISHED"
    told = client.get_metric_history(again.run_id, "rollout/success")
    assert [(metric.step, metric.value) for metric in told] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert client.get_metric_history(again.run_id, "learner/turns_1_10/clip")[0].value == 0.5
    (entry,) = json.loads(client.get_run(again.run_id).data.tags["mlflow.loggedArtifacts"])
    content = json.loads(Path(client.download_artifacts(again.run_id, entry["path"])).read_text())
    assert content["columns"][:4] == ["split", "family", "n", "success"]
    assert content["data"][-1][:4] == ["valid_seen", "all", 2, 0.5]
