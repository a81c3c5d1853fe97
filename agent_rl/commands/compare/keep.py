"""The small files of runs, kept apart from checkpoints and trajectories: enough to make their
comparison again.
"""

import shutil
from pathlib import Path

from agent_rl.commands.compare.runs import Found, Run
from agent_rl.config import ConfigError


def keep(folder: Path, found: Found) -> int:
    """Copy what a comparison reads of each run, and of the starts of sweeps, to `folder`, each to a
    folder of its name.

    Returns the bytes that were copied. `agent-rl compare FOLDER` reads them as it reads the runs.

    Raises:
        ConfigError: a copy is there already, or these are runs of several folders; nothing has been
        copied then.
    """
    names = [*(run.name for run in found.runs), *found.starts]
    if len(found.starts) > 1 or any("/" in name for name in names):
        raise ConfigError(
            f"--keep {folder}: these are runs of several folders, which one copy could not tell apart; keep them one "
            "by one (agent-rl compare SWEEP --keep FOLDER), and compare the copies"
        )
    copies = {
        folder / run.name: (run.path, _small_files(run.path) | _evaluations_of(run))
        for run in found.runs
    }
    for label, evaluation in found.starts.items():
        source = evaluation.path.parents[1]
        copies[folder / label] = (source, _small_files(source) | {evaluation.path})
    for copy in copies:
        if copy.exists():
            raise ConfigError(
                f"--keep {folder}: {copy} exists already; name another folder, or delete it first"
            )
    size = 0
    for copy, (source, files) in copies.items():
        for file in sorted(files):
            target = copy / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            size += target.stat().st_size
    return size


def _small_files(run: Path) -> set[Path]:
    """What `agent_rl.commands.compare.runs` reads beside evaluations, and how long each attempt of
    a sweep took.
    """
    inner = run / "train" if (run / "train").is_dir() else run
    files = {
        inner / "config.yaml",
        inner / "metrics.jsonl",
        run / "config.yaml",
        run / "attempts.jsonl",
    }
    return {file for file in files if file.is_file()}


def _evaluations_of(run: Run) -> set[Path]:
    """Those of its own: that of the start of a sweep is kept with the start."""
    files = {file for one in run.evaluations.values() for file in (one.path, *one.others)}
    return {file for file in files if file.is_relative_to(run.path)}
