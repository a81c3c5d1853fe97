"""The episodes of an evaluation on disk: one policy, one split, one setting, whole or interrupted.

step-000050-valid_seen-t0.4-1f3a9c2e/    the name ends in a digest of the setting
  setting.json                           all that the numbers depend on
  repeat-1.jsonl                         the first repeat: an episode per line, as they ended

The episodes are not compressed: each is appended when it ends, and a person can mend the file.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from agent_rl.config import ConfigError
from agent_rl.display import say
from agent_rl.files import locked, set_aside, write_json
from agent_rl.runs.trajectories import load_trajectories, write_trajectories
from envs import Task
from rollouts import Trajectory

_SETTING, _LOCK = "setting.json", "lock"
_ASIDE = "before"
"""Names what `--again` replaced: `agent_rl.files.set_aside`."""
_AGAIN = "play all games again with --again, which renames the old folder"


def repeat_file(folder: Path, repeat: int) -> Path:
    """The file of a repeat, counted from 0."""
    return folder / f"repeat-{repeat + 1}.jsonl"


def repeat_files(folder: Path) -> list[Path]:
    """The files of an evaluation's repeats that exist, in their order."""
    return list(takewhile(Path.is_file, map(partial(repeat_file, folder), count())))


def evaluation_folders(evaluations: Path) -> list[Path]:
    """The folders of episodes among a run's evaluations, by name; not those that were set aside."""
    folders = [path for path in evaluations.glob("*") if path.is_dir() and repeat_files(path)]
    return sorted(path for path in folders if f".{_ASIDE}-" not in path.name)


def stored_episodes(folder: Path) -> Iterator[tuple[str, Trajectory]]:
    """Read an evaluation's episodes with their names: FOLDER/REPEAT/LINE, counted from 1.

    Raises:
        ConfigError: a file is damaged.
    """
    for repeat, path in enumerate(repeat_files(folder), start=1):
        for line, trajectory in enumerate(load_trajectories(path), start=1):
            yield f"{folder.name}/{repeat}/{line}", trajectory


@contextmanager
def open_episodes(
    folder: Path, setting: Mapping[str, Any], *, again: bool = False
) -> Iterator[None]:
    """Create or resume the folder, and hold its lock. With `again`, rename the old one first.

    Raises:
        ConfigError: the folder has another setting, or another process holds it.
    """
    busy = f"{folder}: another process is playing this evaluation; wait for it"
    if again and folder.exists():
        # Under the lock: a process that plays there would keep writing into the renamed folder.
        with locked(folder / _LOCK, busy):
            aside = set_aside(folder, _ASIDE)
        say(f"the earlier episodes are kept as {aside}")
    with locked(folder / _LOCK, busy):
        path = folder / _SETTING
        # Compared as JSON gives it back: a tuple is a list there.
        as_read = json.loads(json.dumps(setting, default=str))
        if path.exists() or any(folder.glob("repeat-*")):
            _refuse_another(path, as_read)
        else:
            write_json(path, as_read)
        yield


def episodes_in(path: Path, tasks: Sequence[Task]) -> list[Trajectory]:
    """The episodes in a repeat's file that count; empty if the file does not exist.

    Episodes that have to be played again are removed from the file. These are a torn last line, as
    a killed process leaves it, and episodes that say nothing about the policy (`Trajectory.trains`
    is false).

    Raises:
        ConfigError: another line is damaged, or an episode is not of `tasks`, or occurs twice.
    """
    if not path.is_file():
        return []
    _cut_torn_line(path)
    try:
        episodes = load_trajectories(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; or {_AGAIN}") from error
    missing = {task.id: task for task in tasks}
    for number, episode in enumerate(episodes, start=1):
        # Taken out of `missing`, so the second episode of a task is refused too.
        if missing.pop(episode.task.id, None) != episode.task:
            raise ConfigError(
                f"{path}:{number}: an episode of {episode.task.id!r}, which is no game of this "
                f"evaluation or occurs twice; remove that line, or {_AGAIN}"
            )
    scored = [episode for episode in episodes if episode.trains]
    if len(scored) < len(episodes):
        write_trajectories(path, scored)
    return scored


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without a line end; a kill while it was written leaves one."""
    whole_lines, line_end, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole_lines + line_end))
        say(f"{path}: the last line is torn, as a kill leaves it; that episode is played again")


def _refuse_another(path: Path, setting: Mapping[str, Any]) -> None:
    """Raise a ConfigError if the episodes in the folder have another setting.

    The folder's name holds a digest of the setting, so this happens only if a person moved or
    edited something.
    """
    try:
        earlier = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: missing or damaged ({error}), so the setting of the episodes there is "
            f"unknown; {_AGAIN}"
        ) from error
    for key in sorted({*earlier, *setting}):
        if earlier.get(key) != setting.get(key):
            raise ConfigError(
                f"{path}: {key}: the episodes there have {earlier.get(key)!r}, and this evaluation "
                f"has {setting.get(key)!r}; move {path.parent} away, or play all games again with "
                "--again"
            )
