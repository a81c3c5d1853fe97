"""The small files of runs, kept apart from checkpoints and trajectories: enough to make their comparison again."""

import shutil
from pathlib import Path

from agent_rl.config import ConfigError
from agent_rl.runs import Found


def keep(folder: Path, found: Found) -> int:
    """Copy what a comparison reads of each run, and of the starts of sweeps, to `folder`, each to a folder of its name.

    Returns the bytes that were copied. `agent-rl compare FOLDER` reads them as it reads the runs.

    Raises:
        ConfigError: a copy is there already; nothing has been copied then.
    """
    copies = {folder / run.name: run.path for run in found.runs}
    copies |= {folder / label: evaluation.path.parents[1] for label, evaluation in found.starts.items()}
    for copy in copies:
        if copy.exists():
            raise ConfigError(f"--keep {folder}: {copy} exists already; name another folder, or delete it first")
    size = 0
    for copy, source in copies.items():
        for file in _small_files(source):
            target = copy / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            size += target.stat().st_size
    return size


def _small_files(run: Path) -> list[Path]:
    """Those that `agent_rl.runs` reads, and how long each attempt of a sweep took."""
    inner = run / "train" if (run / "train").is_dir() else run
    files = {inner / "config.yaml", inner / "metrics.jsonl", *inner.glob("evaluations/step-*.json")}
    files |= {run / "config.yaml", run / "attempts.jsonl", run / "evaluations" / "final.json"}
    return sorted(file for file in files if file.is_file())
