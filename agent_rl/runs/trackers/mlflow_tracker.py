"""MLflow: a run of an experiment, on a server or in a local store (MLFLOW_TRACKING_URI)."""

import json
import os
import re
import time
from collections.abc import Mapping

from agent_rl.runs.trackers.tracker import TrackedRun, TrackedTable

_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""MLflow itself would try for minutes before it says that a server is away. The follower tries
again later in any case."""
_MOST_PARAMETERS = 100
"""MLflow takes no more at once."""
_LONGEST_PARAMETER = 6000
_TABLES_TAG = "mlflow.loggedArtifacts"
"""The tag by which MLflow's pages know which files are tables."""


class MlflowTracker:
    """Tells MLflow. A table is a file of the run, which MLflow's pages show as a table."""

    def __init__(self, run: TrackedRun) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._paths: list[dict[str, str]] = []
        if run.known_as:
            self.run_id = run.known_as
            self._client.update_run(self.run_id, status="RUNNING")
            tags = self._client.get_run(self.run_id).data.tags
            self._paths = json.loads(tags.get(_TABLES_TAG, "[]"))
            return
        created = self._client.create_run(
            self._experiment(run.project),
            run_name=run.name,
            tags={"group": run.group, "stage": run.stage},
        )
        self.run_id = created.info.run_id
        self._log_config(run.config)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = [Metric(_name(key), float(value), now, step) for key, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=values)

    def table(self, step: int, table: TrackedTable) -> None:
        path = f"{table.name}/step-{step:06d}.json"
        content = {"columns": list(table.head), "data": [list(row) for row in table.rows]}
        self._client.log_dict(self.run_id, content, path)
        entry = {"path": path, "type": "table"}
        if entry not in self._paths:
            self._paths.append(entry)
        self._client.set_tag(self.run_id, _TABLES_TAG, json.dumps(self._paths))

    def finish(self, *, complete: bool) -> None:
        self._client.set_terminated(self.run_id, "FINISHED" if complete else "KILLED")

    def _experiment(self, name: str) -> str:
        """The id of the experiment, which is made if there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except Exception:
            # Another run may have made it meanwhile.
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _log_config(self, config: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        values = []
        for key, value in config.items():
            text = value if isinstance(value, str) else json.dumps(value)
            values.append(Param(_name(key), text[:_LONGEST_PARAMETER]))
        for begin in range(0, len(values), _MOST_PARAMETERS):
            self._client.log_batch(self.run_id, params=values[begin : begin + _MOST_PARAMETERS])


def _name(key: str) -> str:
    """The key with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", key)
