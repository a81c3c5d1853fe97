"""Reads the metrics of a stage, also while it runs or after a kill."""

import json
from pathlib import Path


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """The metrics by step, in the order of the steps; empty if there is no file.

    Of a step that was logged twice, the last line counts. A kill tears a line, whose step will be
    done again: it is left out.
    """
    if not path.is_file():
        return {}
    by_step = {}
    for line in path.read_text(errors="replace").splitlines():
        try:
            metrics = json.loads(line)
            step = int(metrics.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        by_step[step] = metrics
    return dict(sorted(by_step.items()))
