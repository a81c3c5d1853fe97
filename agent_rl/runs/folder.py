"""Everything that a run leaves behind: config, metrics, TensorBoard events, trajectories,
checkpoints.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent_rl.config import Config, ConfigError, dump_config
from rollouts import Trajectory, TrajectoryGroup

_TRAJECTORY = TypeAdapter(Trajectory)


class RunFolder:
    """One run's folder.

        config.yaml                       the resolved config metrics.jsonl                     a
        line per rollout step (or optimizer step of the warm start) tensorboard/
        the same numbers as events trajectories/step-000001.jsonl    a line per episode
        checkpoints/step-000010/          see `agent_rl.runs.checkpoint`

    Opening a folder that holds metrics needs `resume_from`, the step to go on after: later lines
    are cut off, as the steps will be done again.
    """

    def __init__(self, path: str | Path, config: Config, *, resume_from: int | None = None) -> None:
        self.path = Path(path)
        metrics = self.path / "metrics.jsonl"
        # An empty file is of a run that failed before its first step: there is nothing to lose.
        if resume_from is None and metrics.exists() and metrics.stat().st_size:
            raise ConfigError(
                f"{self.path}: holds a run already; go on with `agent-rl train CONFIG --resume` where it has a "
                "checkpoint, or delete the folder, or name another run_folder=..."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "trajectories").mkdir(exist_ok=True)
        (self.path / "config.yaml").write_text(dump_config(config))
        if resume_from is not None and metrics.exists():
            _keep_until(metrics, resume_from)
        self._metrics = metrics.open("a")
        # Imported here: the command line checks a config before anything heavy is loaded.
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_from is None else resume_from + 1
        self._events = SummaryWriter(str(self.path / "tensorboard"), purge_step=purge)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line of metrics and the same to TensorBoard."""
        self._metrics.write(json.dumps({"step": step, **metrics}) + "\n")
        self._metrics.flush()
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def write_groups(self, step: int, groups: Sequence[TrajectoryGroup]) -> None:
        """Write the episodes of one rollout step, a line each."""
        episodes = [t for group in groups for t in group.trajectories]
        write_trajectories(self.path / "trajectories" / f"step-{step:06d}.jsonl", episodes)

    def close(self) -> None:
        self._metrics.close()
        self._events.close()


def write_trajectories(
    path: Path, trajectories: Sequence[Trajectory], *, append: bool = False
) -> None:
    """Write episodes as JSON lines, all that they hold: `load_trajectories` gives equal ones back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if append else "w") as file:
        for trajectory in trajectories:
            file.write(json.dumps(trajectory_record(trajectory)) + "\n")


def load_trajectories(path: Path) -> list[Trajectory]:
    """Read what `write_trajectories` wrote.

    Raises:
        ConfigError: there is no such file, or a line is torn or no episode; the message names file
        and line.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file of trajectories")
    trajectories = []
    for number, line in enumerate(path.open(), start=1):
        try:
            trajectories.append(_TRAJECTORY.validate_python(_fields(json.loads(line))))
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{path}:{number}: not a whole line of JSON ({error}); a run that was killed may leave its last line "
                "torn: delete that line"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}." for part in first["loc"]).rstrip(".")
            what = f"{where}: {first['msg']}" if where else first["msg"]
            raise ConfigError(f"{path}:{number}: not an episode: {what}") from error
        except (KeyError, TypeError, AttributeError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{path}:{number}: not an episode: {what}") from error
    return trajectories


def trajectory_record(trajectory: Trajectory) -> dict[str, Any]:
    """One episode as plain values, flat enough to be read by eye."""
    return {
        "task": asdict(trajectory.task),
        "stop_reason": trajectory.stop_reason.value,
        "success": trajectory.success,
        "return": trajectory.episode_return,
        "error": trajectory.error,
        "turns": [
            {
                "observation": turn.observation,
                "action": turn.action.text,
                "command": turn.action.command,
                "admissible": turn.admissible,
                "reward": turn.reward,
                "finish_reason": turn.completion.finish_reason.value,
                "policy_version": turn.completion.policy_version,
                "prompt_token_ids": turn.prompt_token_ids,
                "token_ids": turn.completion.token_ids,
                "logprobs": turn.completion.logprobs,
            }
            for turn in trajectory.turns
        ],
        "final_observation": trajectory.final_observation,
        "env_seconds": trajectory.env_seconds,
        "policy_seconds": trajectory.policy_seconds,
    }


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `Trajectory` in what `trajectory_record` gave: turns nested again, derived
    values left out.
    """
    if not isinstance(record, dict):
        raise TypeError(f"a line is an object, this is {type(record).__name__}")
    turns = [
        {
            **{
                name: turn[name]
                for name in ("observation", "prompt_token_ids", "admissible", "reward")
            },
            "completion": {
                name: turn[name]
                for name in ("token_ids", "logprobs", "finish_reason", "policy_version")
            },
            "action": {"text": turn["action"], "command": turn["command"]},
        }
        for turn in record["turns"]
    ]
    return {**{name: value for name, value in record.items() if name != "return"}, "turns": turns}


def _keep_until(path: Path, step: int) -> None:
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except json.JSONDecodeError:
            break  # a line torn by a kill is the last one, and its step will be done again
    path.write_text("".join(kept))
