"""Everything that a run leaves behind: config, metrics, TensorBoard events, trajectories, checkpoints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent_rl.config import Config, ConfigError, dump_config
from rollouts import Trajectory, TrajectoryGroup


class RunFolder:
    """One run's folder.

        config.yaml                       the resolved config
        metrics.jsonl                     a line per rollout step (or optimizer step of the warm start)
        tensorboard/                      the same numbers as events
        trajectories/step-000001.jsonl    a line per episode
        checkpoints/step-000010/          see `agent_rl.checkpoint`

    Opening a folder that holds metrics needs `resume_from`, the step to go on after: later lines are cut off, as the
    steps will be done again.
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


def write_trajectories(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """Write episodes as JSON lines; token ids, mask and log-probs included, so that a line can be looked at whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for trajectory in trajectories:
            file.write(json.dumps(trajectory_record(trajectory)) + "\n")


def trajectory_record(trajectory: Trajectory) -> dict[str, Any]:
    """One episode as plain values."""
    task = trajectory.task
    return {
        "task": {"env_id": task.env_id, "split": task.split, "family": task.family, "id": task.id, "seed": task.seed},
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
                "policy_version": turn.completion.policy_version,
                "prompt_token_ids": turn.prompt_token_ids,
                "token_ids": turn.completion.token_ids,
                "logprobs": [round(x, 4) for x in turn.completion.logprobs],
            }
            for turn in trajectory.turns
        ],
        "final_observation": trajectory.final_observation,
    }


def _keep_until(path: Path, step: int) -> None:
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except json.JSONDecodeError:
            break  # a line torn by a kill is the last one, and its step will be done again
    path.write_text("".join(kept))
