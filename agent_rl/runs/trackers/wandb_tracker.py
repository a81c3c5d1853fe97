"""Weights & Biases: a run in its group, online or, with WANDB_MODE=offline, in files to sync."""

import os
from collections.abc import Mapping
from uuid import uuid4

from agent_rl.runs.trackers.tracker import TrackedRun, TrackedTable

_START_SECONDS = 30.0
"""Longest wait for the server at the start; the follower tries again later."""


class WandbTracker:
    """Tells W&B. Who is logged in, and where, is W&B's own matter (`wandb login`, WANDB_*)."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._tables = wandb.Table
        self.run_id = run.known_as or uuid4().hex[:12]
        settings = wandb.Settings(
            # The package's process prints to a log, which is no output of the run.
            console="off",
            disable_code=True,
            init_timeout=_START_SECONDS,
            finish_timeout=max(run.finish_seconds, 0.1),
            finish_timeout_raises=True,
            x_stats_pid=run.driver or os.getpid(),
        )
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            group=run.group,
            job_type=run.stage,
            id=self.run_id,
            resume="allow",
            config=run.config,
            dir=os.environ.get("WANDB_DIR", str(run.folder)),
            settings=settings,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def table(self, step: int, table: TrackedTable) -> None:
        # A column may hold None where there is nothing to tell.
        shown = self._tables(
            columns=list(table.head),
            data=[list(row) for row in table.rows],
            allow_mixed_types=True,
        )
        self._run.log({f"tables/{table.name}": shown}, step=step)

    def finish(self, *, complete: bool) -> None:
        self._run.finish(exit_code=0 if complete else 1)
