"""What is known of one training episode: its group, its advantages, its tokens' numbers.

Advantages and dropped groups are worked out again from the stored episodes and the run's config.
The tokens' numbers are those of the time of training (`agent_rl.runs.token_records`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.learner.samples import turn_advantages
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.layout import RunLayout, StageLayout, run_around
from agent_rl.runs.metrics_file import read_metrics
from agent_rl.runs.token_records import (
    CLIPPED,
    Numbers,
    SampleTokens,
    load_token_records,
    numbers_of_turns,
)
from agent_rl.runs.trajectories import load_step_episodes
from agent_rl.training.groups import PlayedGroups, chosen_groups
from rollouts import Trajectory, TrajectoryGroup


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """An episode with all that its training followed from."""

    id: EpisodeId
    """The episode's name."""
    config: Config
    """The run's config."""
    groups: PlayedGroups
    """All groups of its rollout step."""
    group: TrajectoryGroup
    """Its own group."""
    group_advantages: tuple[tuple[float, ...], ...]
    """For each member and turn the advantage, as the settings give it. It is 0 for members that do
    not train."""
    turn_numbers: tuple[Numbers | None, ...]
    """For each turn the numbers of its tokens, each column of shape [tokens]. None for a turn that
    did not go through the learner, or without records."""
    optimizer_step: int | None
    """The optimizer step that trained it, from 1; None if it is not known, or none did."""
    has_records: bool
    """Whether the run kept records of this step's tokens."""
    step_metrics: dict[str, float]
    """The metrics of all tokens of the step, from the records; empty without them."""
    logged: dict[str, float]
    """The learner's own metrics of the step; empty if the run has no such line."""

    @property
    def trajectory(self) -> Trajectory:
        """The episode."""
        return self.group.trajectories[self.id.member - 1]

    @property
    def advantages(self) -> tuple[float, ...]:
        """The episode's advantage in each turn."""
        return self.group_advantages[self.id.member - 1]

    @property
    def is_kept(self) -> bool:
        """Whether the group trains."""
        return any(group is self.group for group in self.groups.kept)


def explanation_of(run_folder: Path, episode_id: EpisodeId) -> Explanation:
    """Read what a run knows of an episode.

    Raises:
        ConfigError: there is no such run or episode, or a file is damaged.
    """
    train = RunLayout(run_around(run_folder) or run_folder).train
    if not train.config_file.is_file():
        raise ConfigError(f"{run_folder}: no run that was trained ({train.config_file} is missing)")
    config = load_run_config(train.config_file)
    step = episode_id.step
    groups = chosen_groups(_groups(train, step), config.train)
    group = _group_of(groups, episode_id)
    records = None
    if train.token_records(step).is_file():
        records = load_token_records(train.token_records(step), step)
    own = (records or {}).get(episode_id, ())
    trajectory = group.trajectories[episode_id.member - 1]
    return Explanation(
        id=episode_id,
        config=config,
        groups=groups,
        group=group,
        group_advantages=_advantages(group, config),
        turn_numbers=numbers_of_turns(trajectory, own, train.token_records(step)),
        optimizer_step=own[0].optimizer_step if own else None,
        has_records=records is not None,
        step_metrics=metrics_of_tokens([s for parts in (records or {}).values() for s in parts]),
        logged=_logged(train, step),
    )


def metrics_of_tokens(samples: Sequence[SampleTokens]) -> dict[str, float]:
    """Return metrics of all tokens, under the learner's names; empty without any token.

    They equal the learner's own for all samples of a rollout step (`update_metrics`). Shares are
    fractions; log-ratios, entropy and mismatch are in nats.
    """
    if not sum(sample.tokens for sample in samples):
        return {}

    def column(name: str) -> Any:
        return np.concatenate([sample.numbers[name] for sample in samples])

    log_ratio = column("log_ratio").astype(np.float64)
    mismatch, clipped = column("mismatch").astype(np.float64), column("clipped")
    metrics = {
        "ratio_mean": np.exp(log_ratio).mean(),
        "log_ratio_rms": np.sqrt(np.square(log_ratio).mean()),
        "log_ratio_abs_max": np.abs(log_ratio).max(),
    }
    for number, bound in enumerate(CLIPPED):
        if bound:
            metrics[f"clip_fraction_{bound}"] = (clipped == number).mean()
    metrics |= {
        "entropy": column("entropy").astype(np.float64).mean(),
        "mismatch_abs_mean": np.abs(mismatch).mean(),
        "left_out_share": column("left_out").mean(),
    }
    return {name: float(value) for name, value in metrics.items()}


def _groups(train: StageLayout, step: int) -> list[TrajectoryGroup]:
    """The groups that were played in a rollout step.

    Raises:
        ConfigError: no episodes of the step are stored, or their file is damaged.
    """
    files = dict(train.all_step_episodes())
    if step not in files:
        steps = f"there are steps {min(files)} to {max(files)}" if files else "there are none"
        raise ConfigError(
            f"{train.trajectories}: no episodes of step {step}; {steps} (train.keep_trajectories "
            "says how many are kept)"
        )
    members: dict[int, list[Trajectory]] = {}
    for name, trajectory in load_step_episodes(files[step], step).items():
        members.setdefault(name.group, []).append(trajectory)
    return [
        TrajectoryGroup(task=played[0].task, trajectories=tuple(played))
        for _, played in sorted(members.items())
    ]


def _group_of(groups: PlayedGroups, episode_id: EpisodeId) -> TrajectoryGroup:
    """The group of an episode.

    Raises:
        ConfigError: the step has no such group, or the group no such member.
    """
    played = groups.played
    if episode_id.group > len(played):
        raise ConfigError(
            f"episode {episode_id}: step {episode_id.step} has the groups 1 to {len(played)}"
        )
    group = played[episode_id.group - 1]
    if episode_id.member > len(group.trajectories):
        raise ConfigError(
            f"episode {episode_id}: group {episode_id.group} has the members 1 to "
            f"{len(group.trajectories)}"
        )
    return group


def _advantages(group: TrajectoryGroup, config: Config) -> tuple[tuple[float, ...], ...]:
    """For each member and turn the advantage; 0 for members that do not train."""
    advantages = []
    for trajectory, of_turns in zip(
        group.trajectories, turn_advantages(group, config.learner), strict=True
    ):
        advantages.append(of_turns or (0.0,) * len(trajectory.turns))
    return tuple(advantages)


def _logged(train: StageLayout, step: int) -> dict[str, float]:
    """The learner's metrics in the line of a step, without their prefix."""
    metrics = read_metrics(train.metrics_file).get(step, {})
    prefix = "learner/"
    return {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
