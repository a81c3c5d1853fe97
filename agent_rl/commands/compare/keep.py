"""The small files of runs, copied apart from checkpoints and trajectories.

They are enough to make a comparison again.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from agent_rl.commands.compare.runs import Found, Run, training_of
from agent_rl.config import ConfigError
from agent_rl.runs.layout import RunLayout


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """The files of one run or start to copy, from `source` to `target`."""

    source: Path
    target: Path
    files: set[Path]


def copy_small_files(found: Found, folder: Path) -> int:
    """Copy the files that a comparison reads to `folder`, into a folder for each run and start.

    `agent-rl compare FOLDER` reads the copies as it reads the runs.

    Returns:
        The number of bytes that were copied.

    Raises:
        ConfigError: a copy exists already, or the runs are of several folders. Nothing has been
            copied then.
    """
    copies = _planned(found, folder)
    for copy in copies:
        if copy.target.exists():
            raise ConfigError(
                f"--keep {folder}: {copy.target} exists already; name another folder, or delete it "
                "first"
            )
    size = 0
    for copy in copies:
        for file in sorted(copy.files):
            target = copy.target / file.relative_to(copy.source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            size += target.stat().st_size
    return size


def _planned(found: Found, folder: Path) -> list[_Copy]:
    names = [*(run.name for run in found.runs), *found.starts]
    # A name has a slash if another folder has a run or a start of the same name.
    if len(found.starts) > 1 or any("/" in name for name in names):
        raise ConfigError(
            f"--keep {folder}: these are runs of several folders, which one copy could not tell "
            "apart; keep them one by one (agent-rl compare SWEEP --keep FOLDER), and compare the "
            "copies"
        )
    copies = []
    for run in found.runs:
        small = _small_files(run.path) | _own_evaluations(run)
        copies.append(_Copy(source=run.path, target=folder / run.name, files=small))
    for label, evaluation in found.starts.items():
        # START/evaluations/final.json
        start = evaluation.path.parents[1]
        small = _small_files(start) | {evaluation.path}
        copies.append(_Copy(source=start, target=folder / label, files=small))
    return copies


def _small_files(folder: Path) -> set[Path]:
    """The configs, the metrics and the ends of a run, of a copy of one, or of a start."""
    run, training = RunLayout(folder), training_of(folder)
    files = (
        run.config_file,
        run.attempts_file,
        training.config_file,
        training.metrics_file,
        run.ending_file,
    )
    return {file for file in files if file.is_file()}


def _own_evaluations(run: Run) -> set[Path]:
    """The files of a run's evaluations. That of a sweep's start is copied with the start."""
    files = set()
    for evaluation in run.evaluations.values():
        for file in (evaluation.path, *evaluation.others):
            if file.is_relative_to(run.path):
                files.add(file)
    return files
