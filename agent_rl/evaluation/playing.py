"""Playing an evaluation: each game of each split once per repeat, the same for a policy, the expert
and chance.

An episode is on disk as soon as it has ended (`evaluation_folder`). The same command again plays
what is missing, and more repeats go on in the same folder. Each repeat has its own seed; the first
has the config's.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from agent_rl.config import Config, ConfigError
from agent_rl.display import say
from agent_rl.evaluation.episodes import digest, episodes_in, opened, repeat_file
from agent_rl.evaluation.report import VERSION, EvaluationReport, checkpoint_step, summarize
from agent_rl.evaluation.tables import latex, markdown, show
from agent_rl.runs.folder import write_trajectories
from agent_rl.tasks import evaluation_tasks
from envs import Task, TextEnv
from rollouts import Trajectory
from rollouts.seeds import derive_seed
from rollouts.workers.pool import OnEpisode

Play = Callable[[list[Task], str, int, OnEpisode], object]
"""Plays each of some tasks once: the tasks, a label for the progress bar, the seed, whom to tell of
each episode.
"""

FOLDER = "evaluations"
_TIME_LIMITS = {"timeout_seconds", "env_timeout_seconds"}
"""Of `EpisodeSettings`: an episode that meets one is not scored, and is played again."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who is evaluated: `model` is a policy's path or hub name, or a player's name; `name` is
    short, for files.

    `identity` tells it from all others, wherever its files lie; `weights` (None for a player) from
    those with other weights. A player has no `temperature` either. `details` are what else a
    policy's numbers depend on. `whole_repeats`: its seeds depend on all the tasks that are played
    together, so a repeat that was broken off is played from its beginning, and what was there is
    kept.
    """

    model: str
    name: str
    identity: str
    weights: str | None = None
    temperature: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    whole_repeats: bool = False


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files that get the report too, beside the JSON in the run's folder."""

    json: Path | None = None
    markdown: Path | None = None
    latex: Path | None = None


def tasks_by_split(config: Config, env: TextEnv) -> dict[str, list[Task]]:
    """The tasks of each split of `evaluation.split`.

    Raises:
        ConfigError: a split is not there; the message names those that are.
    """
    found = {}
    for split in config.evaluation.split:
        if split not in env.splits:
            there = ", ".join(env.splits)
            raise ConfigError(
                f"split {split!r}: environment {config.env.id!r} has no such split; there are: {there}"
            )
        try:
            found[split] = evaluation_tasks(config, env.tasks, split)
        except ConfigError:
            raise
        except ValueError as error:
            others = [name for name in env.splits if name != split and _has_tasks(env, name)]
            there = (
                f"splits with tasks: {', '.join(others)}" if others else "no other split has tasks"
            )
            raise ConfigError(f"split {split!r}: {error}; {there}") from error
    return found


def setting_of(
    config: Config,
    model: str,
    temperature: float | None,
    *,
    weights: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What stands beside the scores of a report; see `Subject`."""
    return {
        "model": model,
        "weights": weights,
        "temperature": temperature,
        "seed": config.seed,
        "repeats": config.evaluation.repeats,
        "env": config.env.id,
        "env_options": config.env.options,
        "max_turns": config.episode.max_turns,
        "max_action_tokens": config.episode.max_action_tokens,
        **more,
    }


def repeat_seed(seed: int, repeat: int) -> int:
    """The seed of a repeat, counted from 0: the first one's is that of a single evaluation."""
    return derive_seed(seed, "repeat", repeat) if repeat else seed


def run_evaluation(
    config: Config,
    subject: Subject,
    tasks: Mapping[str, list[Task]],
    play: Play,
    *,
    again: bool = False,
    outputs: Outputs | None = None,
) -> EvaluationReport:
    """Play what is missing of an evaluation, score all of it, print and write the report.

    `play` is called only where something is missing. With `again`, everything is played anew.

    Raises:
        ConfigError: the files of an earlier call are damaged or of another setting, or another
        process has them.
    """
    with ExitStack() as stack:
        parts = [
            _part(config, subject, split, of_split, again, stack)
            for split, of_split in tasks.items()
        ]
        if there := sum(len(episodes) for part in parts for episodes in part.repeats):
            total = sum(len(part.tasks) * len(part.repeats) for part in parts)
            say(f"{there} of {total} episodes are there already")
        for part in parts:
            for n in range(len(part.repeats)):
                part.play_missing(
                    n, play, seed=repeat_seed(config.seed, n), whole=subject.whole_repeats
                )
    setting = setting_of(
        config, subject.model, subject.temperature, weights=subject.weights, **subject.details
    )
    report = summarize({part.split: part.repeats for part in parts}, setting)
    show(report, subject.model)
    for part in parts:
        part.tell_failures()
    names = [part.folder.name for part in parts]
    name = names[0] if len(names) == 1 else _name(subject, "+".join(tasks), digest(names))
    path = Path(config.run_folder) / FOLDER / f"{name}.json"
    report.write(path)
    _write(report, subject, outputs or Outputs())
    say(f"every game: {path}")
    return report


def set_aside_after(run_folder: Path, step: int) -> None:
    """Rename the reports on rollout steps of a run after `step`, as these will be made anew and be
    other policies.

    The episodes need no new name: their folders are by the weights.
    """
    of = {
        path: int(path.stem.rpartition("-")[2])
        for path in (run_folder / "train" / FOLDER).glob("step-*.json")
    }
    for path in (run_folder / FOLDER).glob("*.json"):
        if (made := _own_checkpoint(path, run_folder)) is not None:
            of[path] = made
    for report in sorted(path for path, made in of.items() if made > step):
        aside = next(
            to
            for n in count(1)
            if not (to := report.with_name(f"{report.name}.before-{n}")).exists()
        )
        report.rename(aside)
        say(
            f"rollout step {of[report]} will be made anew; what was evaluated there is kept as {aside}"
        )


def _own_checkpoint(report: Path, run_folder: Path) -> int | None:
    """The rollout step of the run's checkpoint that a report is on; None for another policy's, and
    where it cannot be told: whoever reads a damaged report will say so.
    """
    with suppress(ValueError, KeyError, TypeError):
        setting = json.loads(report.read_text())["setting"]
        if Path(setting["model"]).parts[:-1].count(run_folder.resolve().name):
            return checkpoint_step(setting)
    return None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One split: its folder, and the scored episodes of each repeat, to which those that are played
    are added.
    """

    split: str
    tasks: list[Task]
    folder: Path
    repeats: list[list[Trajectory]]

    def play_missing(self, repeat: int, play: Play, *, seed: int, whole: bool) -> None:
        """Play what a repeat lacks; with `whole`, all of it is played for that, and what it lacked
        is kept.
        """
        episodes = self.repeats[repeat]
        have = {episode.task.id for episode in episodes}
        missing = [task for task in self.tasks if task.id not in have]
        if not missing:
            return

        def ended(episode: Trajectory) -> None:
            if episode.task.id not in have:
                write_trajectories(repeat_file(self.folder, repeat), [episode], append=True)
                episodes.append(episode)

        number = f", repeat {repeat + 1}/{len(self.repeats)}" if len(self.repeats) > 1 else ""
        play(self.tasks if whole else missing, f"evaluation on {self.split}{number}", seed, ended)

    def tell_failures(self) -> None:
        """Say why the first of the episodes that are in no score is not, and where the others are."""
        for n, episodes in enumerate(self.repeats):
            for episode in episodes:
                if not episode.stop_reason.trains:
                    why = episode.error or episode.stop_reason.value
                    say(f"{self.split}, the first that is not scored: {why}")
                    say(
                        f"see `error` in {repeat_file(self.folder, n)}; the same command plays them again"
                    )
                    return


def _part(
    config: Config, subject: Subject, split: str, tasks: list[Task], again: bool, stack: ExitStack
) -> _Part:
    setting = _depends_on(config, subject, split, tasks)
    folder = Path(config.run_folder) / FOLDER / _name(subject, split, digest(setting))
    stack.enter_context(opened(folder, setting, again=again))
    repeats = [episodes_in(repeat_file(folder, n), tasks) for n in range(config.evaluation.repeats)]
    return _Part(split=split, tasks=tasks, folder=folder, repeats=repeats)


def _depends_on(config: Config, subject: Subject, split: str, tasks: list[Task]) -> dict[str, Any]:
    """All that the outcome of an episode depends on."""
    return {
        "version": VERSION,
        "policy": subject.identity,
        "temperature": subject.temperature,
        **subject.details,
        "seed": config.seed,
        "env": config.env.id,
        "env_options": config.env.options,
        "episode": config.episode.model_dump(exclude=_TIME_LIMITS),
        "split": split,
        "tasks": f"{len(tasks)} tasks ({digest([asdict(task) for task in tasks])})",
    }


def _name(subject: Subject, splits: str, of_setting: str) -> str:
    """Of a folder or a report: who, where, how hot, and what tells it from all others."""
    temperature = "" if subject.temperature is None else f"-t{subject.temperature:g}"
    place = re.sub(r"[^\w.+-]+", "-", splits)
    return f"{subject.name}-{place}{temperature}-{of_setting}"


def _write(report: EvaluationReport, subject: Subject, outputs: Outputs) -> None:
    if outputs.json:
        report.write(outputs.json)
    texts = {
        outputs.markdown: markdown(report, subject.model),
        outputs.latex: latex(report, subject.name),
    }
    for path, text in texts.items():
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def _has_tasks(env: TextEnv, split: str) -> bool:
    try:
        return bool(env.tasks(split))
    except ValueError:
        return False
