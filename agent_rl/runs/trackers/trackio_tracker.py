"""trackio: a run in a local store (TRACKIO_DIR), on a server of one's own or in a Space."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from agent_rl.runs.trackers.tracker import TrackedRun, TrackedTable


class TrackioTracker:
    """Tells trackio, which knows a run by its name: four hex digits make the name unique.

    trackio warns where others raise errors, so its warnings are told.
    """

    def __init__(self, run: TrackedRun, *, warn: Callable[[str], None]) -> None:
        import trackio

        def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
            warn(str(message))

        warnings.showwarning = show_warning
        self._tables = trackio.Table
        self.run_id = run.known_as or f"{run.name}-{uuid4().hex[:4]}"
        self._run = trackio.init(
            project=run.project,
            name=self.run_id,
            group=run.group,
            config={**run.config, "stage": run.stage},
            resume="allow",
            embed=False,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def table(self, step: int, table: TrackedTable) -> None:
        rows = [list(row) for row in table.rows]
        shown = self._tables(columns=list(table.head), data=rows)
        self._run.log({f"tables/{table.name}": shown}, step=step)

    def finish(self, *, complete: bool) -> None:
        self._run.finish()
