"""The episodes of an evaluation on disk: one policy, one split, one setting, whole or broken off.

step-000050-valid_seen-t0.4-1f3a9c2e/ setting.json      all that the numbers depend on; the
digest in the folder's name is of it repeat-1.jsonl    the episodes of the first repeat, a line
each, in the order in which they ended
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from agent_rl.config import ConfigError
from agent_rl.display import say
from agent_rl.runs.folder import load_trajectories, write_trajectories
from envs import Task
from rollouts import Trajectory

_SETTING, _LOCK = "setting.json", "lock"
_WAY_OUT = "take that line out, or play everything anew with --again, which keeps what there was"


def digest(value: Any) -> str:
    """Eight letters that stand for a value that JSON can spell."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def repeat_file(folder: Path, repeat: int) -> Path:
    """The file of a repeat, counted from 0."""
    return folder / f"repeat-{repeat + 1}.jsonl"


@contextmanager
def opened(folder: Path, setting: Mapping[str, Any], *, again: bool = False) -> Iterator[None]:
    """Make the folder, or go on with it, and keep other processes out. With `again`, what there was
    is set aside.

    Raises:
        ConfigError: it is of another setting, or another process has it.
    """
    if again and folder.exists():
        with _alone(folder):
            aside = next(
                to
                for n in count(1)
                if not (to := folder.with_name(f"{folder.name}-before-{n}")).exists()
            )
            folder.rename(aside)
        say(f"what there was is kept as {aside}")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        path, spelled = folder / _SETTING, json.loads(json.dumps(setting, default=str))
        if path.exists() or any(folder.glob("repeat-*")):
            _refuse_another(path, spelled)
        else:
            unfinished = folder / f"{_SETTING}.partial"
            unfinished.write_text(json.dumps(spelled, indent=2) + "\n")
            os.replace(unfinished, path)
        yield


def episodes_in(path: Path, tasks: Sequence[Task]) -> list[Trajectory]:
    """The episodes of a repeat that count, as far as it has been played.

    What is to be played again is taken out of the file: a torn last line, of a process that was
    killed, and episodes whose ending says nothing about the policy (`StopReason.trains` is false).

    Raises:
        ConfigError: another line is damaged, or an episode is not of `tasks`, or there twice.
    """
    if not path.is_file():
        return []
    whole, end, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole + end))
        say(
            f"{path}: its last line is torn, as a process leaves it that was killed; that episode is played again"
        )
    try:
        there = load_trajectories(path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: damaged ({error}); {_WAY_OUT}") from error
    missing = {task.id: task for task in tasks}
    for number, episode in enumerate(there, start=1):
        if missing.pop(episode.task.id, None) != episode.task:
            raise ConfigError(
                f"{path}:{number}: an episode of {episode.task.id!r}, which is no game of this evaluation or is there "
                f"already; {_WAY_OUT}"
            )
    scored = [episode for episode in there if episode.stop_reason.trains]
    if len(scored) < len(there):
        unfinished = path.with_suffix(".partial")
        write_trajectories(unfinished, scored)
        os.replace(unfinished, path)
    return scored


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock in the folder; it ends with the process, however that ends."""
    with (folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{folder}: another process is playing this evaluation; wait for it"
            ) from error
        yield


def _refuse_another(path: Path, setting: Mapping[str, Any]) -> None:
    try:
        there = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: missing or damaged ({error}), so nobody can tell of which setting the episodes beside it are; "
            "play everything anew with --again, which keeps what there was"
        ) from error
    for key in sorted({*there, *setting}):
        if there.get(key) != setting.get(key):
            raise ConfigError(
                f"{path}: {key}: the episodes there are of {there.get(key)!r}, and this evaluation is of "
                f"{setting.get(key)!r}; move {path.parent} away, or play everything anew with --again"
            )
