"""The episodes that `agent-rl export-episodes` writes: where they are, and which are chosen."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.evaluation.episodes import evaluation_folders, stored_episodes
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_step_episodes, load_trajectories
from envs.nearest import did_you_mean
from rollouts import Trajectory

Stage = Literal["train", "sft", "evaluations"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class StoredEpisode:
    """An episode with its place in a run."""

    id: str
    """`12/3/5` (step, group, member) in training, `sft/7` of the expert, else the evaluation's
    folder, repeat and line."""
    step: int | None
    """The rollout step that it trained in; None if it is of no step."""
    trajectory: Trajectory
    """The episode."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The filters of the command line; an episode has to pass all."""

    steps: tuple[tuple[int, int], ...] = ()
    """First and last rollout steps; none takes all."""
    splits: tuple[str, ...] = ()
    """Splits; none takes all."""
    families: tuple[str, ...] = ()
    """Families of tasks; none takes all."""
    success: bool | None = None
    """Only those that succeeded, or only those that did not; None takes both."""

    def takes_step(self, step: int) -> bool:
        """Whether a rollout step is chosen."""
        return not self.steps or any(first <= step <= last for first, last in self.steps)

    def takes(self, trajectory: Trajectory) -> bool:
        """Whether an episode of a chosen step is chosen."""
        task = trajectory.task
        return (
            (not self.splits or task.split in self.splits)
            and (not self.families or task.family in self.families)
            and (self.success is None or trajectory.success == self.success)
        )


@dataclass(kw_only=True)
class Seen:
    """What was met on the way, for the messages to the user."""

    chosen: int = 0
    """Episodes that were handed out."""
    unusable: int = 0
    """Episodes that say nothing about the policy: the environment or the engine failed."""
    all: int = 0
    """All episodes of the chosen steps."""
    families: set[str] = field(default_factory=set)
    """The families of all of them."""
    splits: set[str] = field(default_factory=set)
    """The splits of all of them."""


def read_steps(text: str) -> tuple[tuple[int, int], ...]:
    """Read `10`, `5-10` or `1,5-10`; an empty text is no filter.

    Raises:
        ConfigError: the text has another form.
    """
    ranges = []
    for part in text.split(",") if text else []:
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isdecimal() for end in ends) or int(ends[0]) > int(ends[1]):
            raise ConfigError(f"--step {text}: write a step, a range or several: 10, 5-10, 1,5-10")
        ranges.append((int(ends[0]), int(ends[1])))
    return tuple(ranges)


def run_config(run: RunLayout, stage: Stage) -> Config:
    """The config that a stage of a run recorded; evaluations have that of the training.

    Raises:
        ConfigError: the folder is no run, or the run has no such stage.
    """
    stages = {"train": (run.train,), "sft": (run.sft,), "evaluations": (run.train, run.sft)}
    for layout in stages[stage]:
        if layout.config_file.is_file():
            return load_run_config(layout.config_file)
    raise ConfigError(
        f"{run.folder}: no run folder with a stage {stage!r} ({stages[stage][0].config_file} is "
        f"missing); name the run_folder of a config, or one of --stage {', '.join(STAGES)}"
    )


def chosen_episodes(
    run: RunLayout, stage: Stage, choice: Choice, seen: Seen
) -> Iterator[StoredEpisode]:
    """Hand out the chosen episodes, file after file, so that a long run needs no more memory.

    Raises:
        ConfigError: a file is damaged; or, at the end, none was chosen.
    """
    for stored in _stored(run, stage, choice):
        trajectory = stored.trajectory
        seen.all += 1
        seen.families.add(trajectory.task.family)
        seen.splits.add(trajectory.task.split)
        if not choice.takes(trajectory):
            continue
        if not trajectory.trains:
            seen.unusable += 1
            continue
        seen.chosen += 1
        yield stored
    if not seen.chosen:
        raise _none_chosen(run, stage, choice, seen)


def _stored(run: RunLayout, stage: Stage, choice: Choice) -> Iterator[StoredEpisode]:
    if stage == "train":
        for step, path in sorted(run.train.all_step_episodes()):
            if choice.takes_step(step):
                for episode_id, trajectory in load_step_episodes(path, step).items():
                    yield StoredEpisode(id=str(episode_id), step=step, trajectory=trajectory)
    elif stage == "sft":
        path = run.sft.expert_episodes
        for number, trajectory in enumerate(load_trajectories(path), start=1):
            yield StoredEpisode(id=f"sft/{number}", step=None, trajectory=trajectory)
    else:
        for folder in evaluation_folders(run.evaluations):
            for name, trajectory in stored_episodes(folder):
                yield StoredEpisode(id=name, step=None, trajectory=trajectory)


def _none_chosen(run: RunLayout, stage: Stage, choice: Choice, seen: Seen) -> ConfigError:
    """The error if nothing is left to write, with what there is."""
    if not seen.all:
        steps = sorted(step for step, _ in run.train.all_step_episodes())
        there = f"; there are steps {steps[0]} to {steps[-1]}" if steps and choice.steps else ""
        kept = "" if there else " (train.keep_trajectories may have deleted them)"
        return ConfigError(f"{run.folder}: no episodes of stage {stage!r} there{kept}{there}")
    for option, names, known in (
        ("--family", choice.families, seen.families),
        ("--split", choice.splits, seen.splits),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            question = did_you_mean(unknown[0], sorted(known))
            hint = f"; {question}" if question else ""
            return ConfigError(
                f"{option} {unknown[0]}: is none of {', '.join(sorted(known))}{hint}"
            )
    return ConfigError(
        f"{run.folder}: none of {seen.all} episodes passes all filters; take one of them away"
    )


def names_of(text: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
