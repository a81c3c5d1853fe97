"""Episodes as JSON lines: written, read back to equal values, flat enough to read by eye.

A file whose name ends in `.gz` is compressed; `zcat` shows it.
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import TypeAdapter, ValidationError

from agent_rl.config import ConfigError
from agent_rl.files import naming_full_disk, whole_file
from agent_rl.runs.episode_ids import EpisodeId, ids_by_task
from rollouts import Trajectory, Turn

_TRAJECTORY = TypeAdapter(Trajectory)
_LEVEL = 3
"""Of gzip. A rollout step of the world config shrinks to a seventh in a quarter of the time that
its JSON takes. Level 6 leaves a ninth, in two thirds of that time."""
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError)
"""What reading a file raises that was cut off or changed."""


def write_trajectories(
    path: Path,
    trajectories: Sequence[Trajectory],
    *,
    ids: Sequence[EpisodeId] | None = None,
    append: bool = False,
) -> None:
    """Write episodes, a line each, with all that they hold; compressed for a name in `.gz`.

    Without `append`, the file is written whole or not at all.

    Args:
        ids: the names of training episodes, one for each; other episodes have none.
    """
    names = [{"id": str(name)} for name in ids] if ids else [{} for _ in trajectories]
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        naming_full_disk(path),
        nullcontext(path) if append else whole_file(path) as written,
        _open(written, "a" if append else "w", compressed=_is_compressed(path)) as file,
    ):
        for name, trajectory in zip(names, trajectories, strict=True):
            file.write(json.dumps(name | trajectory_record(trajectory)) + "\n")


def load_trajectories(path: Path) -> list[Trajectory]:
    """Read what `write_trajectories` wrote.

    Raises:
        ConfigError: there is no such file, it is cut off or damaged, or a line is torn or no
            episode. The message names the file and the line.
    """
    return [trajectory for _, trajectory in _named_trajectories(path)]


def load_step_episodes(path: Path, step: int) -> dict[EpisodeId, Trajectory]:
    """Read the episodes of a rollout step with their names, in the order of the file.

    Raises:
        ConfigError: as `load_trajectories`.
    """
    named = _named_trajectories(path)
    episodes = [trajectory for _, trajectory in named]
    if all(name for name, _ in named):
        ids = [EpisodeId.parse(name) for name, _ in named]
    else:
        ids = ids_by_task(step, episodes)
    return dict(zip(ids, episodes, strict=True))


def _named_trajectories(path: Path) -> list[tuple[str, Trajectory]]:
    """The episodes of a file with their names, which are empty if the file has none."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file of trajectories")
    trajectories: list[tuple[str, Trajectory]] = []
    compressed = _is_compressed(path)
    try:
        if compressed and not path.stat().st_size:
            raise EOFError("the file is empty")  # gzip reads it as one without lines
        with _open(path, "r", compressed=compressed) as file:
            for number, line in enumerate(file, start=1):
                trajectories.append(_episode(line, f"{path}:{number}"))
    except _DAMAGED as error:
        raise ConfigError(
            f"{path}: damaged after line {len(trajectories)} ({error}); copy it again, or keep "
            "the lines until there"
        ) from error
    return trajectories


def _is_compressed(path: Path) -> bool:
    return path.suffix == ".gz"


def _open(path: Path, mode: Literal["r", "w", "a"], *, compressed: bool) -> TextIO:
    """Open a file of episodes. The name cannot tell: one that is being written has another."""
    if not compressed:
        return path.open(mode, encoding="utf-8")
    return TextIOWrapper(gzip.GzipFile(path, mode, _LEVEL), encoding="utf-8")


def _episode(line: str, place: str) -> tuple[str, Trajectory]:
    """The name and the episode in a line; `place` is for the error's message."""
    try:
        record = json.loads(line)
        trajectory = _TRAJECTORY.validate_python(_fields(record))
        return str(record.get("id", "")), trajectory
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{place}: not a whole line of JSON ({error}); a run that was killed may leave its "
            "last line torn: delete that line"
        ) from error
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{place}: not an episode: {_reason(error)}") from error


def trajectory_record(trajectory: Trajectory) -> dict[str, Any]:
    """Return one episode as plain values, for JSON."""
    return {
        "task": asdict(trajectory.task),
        "stop_reason": trajectory.stop_reason.value,
        "success": trajectory.success,
        "return": trajectory.episode_return,
        "error": trajectory.error,
        "turns": [_turn_record(turn) for turn in trajectory.turns],
        "final_observation": trajectory.final_observation,
        "env_seconds": trajectory.env_seconds,
        "policy_seconds": trajectory.policy_seconds,
    }


def _turn_record(turn: Turn) -> dict[str, Any]:
    # Most episodes have one prompt that grows and actions only, so marks are written where they say
    # something.
    marks: dict[str, Any] = {"new_prompt": True} if turn.new_prompt else {}
    if turn.kind != "action":
        marks["kind"] = turn.kind
    if turn.advice is not None:
        marks["advice"] = turn.advice
    if turn.mistakes:
        marks["mistakes"] = turn.mistakes
    return marks | {
        "observation": turn.observation,
        "action": turn.action.text,
        "command": turn.action.command,
        "admissible": turn.admissible,
        "reward": turn.reward,
        "finish_reason": turn.completion.finish_reason.value,
        "policy_version": _short_versions(turn.completion.versions),
        "prompt_token_ids": turn.prompt_token_ids,
        "token_ids": turn.completion.token_ids,
        "logprobs": turn.completion.logprobs,
    }


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a `Trajectory` in a result of `trajectory_record`: the reverse of it."""
    if not isinstance(record, dict):
        raise TypeError(f"a line is an object, this is {type(record).__name__}")
    # The return is for readers by eye; a trajectory computes it from its rewards. An episode's name
    # is that of its place in the run.
    fields = {name: value for name, value in record.items() if name not in ("id", "return")}
    return {**fields, "turns": [_turn_fields(turn) for turn in record["turns"]]}


def _turn_fields(turn: dict[str, Any]) -> dict[str, Any]:
    return {
        "observation": turn["observation"],
        "prompt_token_ids": turn["prompt_token_ids"],
        "admissible": turn["admissible"],
        "reward": turn["reward"],
        "completion": {
            "token_ids": turn["token_ids"],
            "logprobs": turn["logprobs"],
            "finish_reason": turn["finish_reason"],
            "versions": _versions(turn["policy_version"]),
        },
        "action": {"text": turn["action"], "command": turn["command"]},
        "new_prompt": turn.get("new_prompt", False),
        "kind": turn.get("kind", "action"),
        "advice": turn.get("advice"),
        "mistakes": turn.get("mistakes", ()),
    }


def _short_versions(versions: Sequence[tuple[int, int]]) -> int | Sequence[tuple[int, int]]:
    """The versions of a completion: one number if one version sampled all of it."""
    return versions[0][0] if len(versions) == 1 else versions


def _versions(short: Any) -> Any:
    """The reverse of `_short_versions`."""
    return short if isinstance(short, list) else [(short, 0)]


def _reason(error: Exception) -> str:
    """Why a line is no episode, with the place in it if pydantic names one."""
    if isinstance(error, KeyError):
        return f"there is no {error}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return str(error)
