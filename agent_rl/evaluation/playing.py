"""Playing an evaluation: each game of each split once per repeat, for a policy or another player.

An episode is written to disk as soon as it has ended (see `agent_rl.evaluation.episodes`). The same
command again plays only what is missing, and more repeats continue in the same folder. Each repeat
has its own seed; the first has the config's.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent_rl.config import Config, ConfigError
from agent_rl.display import say
from agent_rl.evaluation.episodes import episodes_in, open_episodes, repeat_file
from agent_rl.evaluation.report import VERSION, EvaluationReport, read_report, summarize
from agent_rl.evaluation.tables import latex, markdown, show
from agent_rl.files import set_aside, short_digest, write_text
from agent_rl.runs.layout import CHECKPOINT_MODEL, RunLayout
from agent_rl.runs.trajectories import write_trajectories
from agent_rl.tasks import evaluation_tasks
from envs import Task, TextEnv
from envs.own_thread import HungCall
from envs.registry import object_reader
from rollouts import EpisodeSettings, Trajectory
from rollouts.seeds import derive_seed
from rollouts.workers.failed_tasks import FailedTasks, with_task
from rollouts.workers.stream import OnEpisode

Play = Callable[[list[Task], str, int, OnEpisode], object]
"""Plays each task once: the tasks, a label for the progress bar, the seed, and a function that is
called with each episode as it ends.
"""


@dataclass(frozen=True, kw_only=True)
class EvaluatedPlayer:
    """Who is evaluated: a policy, the environment's expert or random commands."""

    model: str
    """The policy's path or hub name, or the player's name."""
    name: str
    """A short name for files, see `policy_name`."""
    identity: str
    """Identifies it, wherever its files are: the fingerprint of a policy, a player's name."""
    weights: str | None = None
    """The fingerprint of the weights alone; None for a player without a model."""
    temperature: float | None = None
    """The sampling temperature; None for a player without a model."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The other conditions of a policy's numbers: prompt, dtype, context length."""
    whole_repeats: bool = False
    """Whether the seed of an episode depends on all tasks of the call. Then an interrupted repeat
    is played from its beginning, and the episodes that it already had are kept.
    """


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files that the report is written to, in addition to the JSON in the run's folder."""

    json: Path | None = None
    """The whole report."""
    markdown: Path | None = None
    """The tables."""
    latex: Path | None = None
    """A row of a table per split."""

    def write(self, report: EvaluationReport, player: EvaluatedPlayer) -> None:
        """Write the files that are named."""
        if self.json:
            report.write(self.json)
        if self.markdown:
            write_text(self.markdown, markdown(report, player.model))
        if self.latex:
            write_text(self.latex, latex(report, player.name))


def tasks_by_split(config: Config, env: TextEnv) -> dict[str, list[Task]]:
    """The tasks of each split of `evaluation.split`.

    Raises:
        ConfigError: a split does not exist; the message names those that do.
    """
    by_split = {}
    for split in config.evaluation.split:
        if split not in env.splits:
            raise ConfigError(
                f"split {split!r}: environment {config.env.id!r} has no such split; there are: "
                + ", ".join(env.splits)
            )
        try:
            by_split[split] = evaluation_tasks(config, env.tasks, split)
        except (ConfigError, HungCall):
            raise
        except ValueError as error:
            # Raised by the environment, whose data lacks this split: another one may be there.
            others = [name for name in env.splits if name != split and _has_tasks(env, name)]
            hint = f"splits with tasks: {', '.join(others)}" if others else "no split has tasks"
            raise ConfigError(f"split {split!r}: {error}; {hint}") from error
    return by_split


def setting_of(
    config: Config,
    model: str,
    temperature: float | None,
    *,
    weights: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The setting of a report: who played and under which conditions.

    Args:
        model: see `EvaluatedPlayer`; `temperature` and `weights` too.
        more: further keys, such as the details of a policy.
    """
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
        "max_thought_tokens": config.episode.max_thought_tokens,
        **more,
    }


def repeat_seed(seed: int, repeat: int) -> int:
    """The seed of a repeat, counted from 0.

    The first repeat has the config's seed, so an evaluation of one repeat is the beginning of one
    of three.
    """
    return derive_seed(seed, "repeat", repeat) if repeat else seed


def policy_name(source: str) -> str:
    """A short name for the policy at `source` that can be part of a file name.

    For example step-000050, sft or init for a policy of a run, else the model's or player's name.
    """
    parts = [part for part in Path(source).parts if part not in ("/", "..")]
    if len(parts) > 1 and parts[-1] == CHECKPOINT_MODEL:
        parts.pop()  # the folder above says whose model it is: a checkpoint's or the warm start's
    last = parts[-1].removesuffix(".gguf") if parts else ""
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "policy"


def run_evaluation(
    config: Config,
    player: EvaluatedPlayer,
    tasks: Mapping[str, list[Task]],
    play: Play,
    *,
    again: bool = False,
    outputs: Outputs | None = None,
) -> EvaluationReport:
    """Play the missing episodes of an evaluation, score all of them, print and write the report.

    Args:
        tasks: the tasks of each split.
        play: is called only if an episode is missing.
        again: play all games again; the earlier episodes are renamed.
        outputs: further files to write the report to.

    Raises:
        ConfigError: the files of an earlier call are damaged or of another setting, or another
            process holds them.
        ValueError: more tasks than `workers.max_failed_share` could not be played.
    """
    # The folders stay locked from reading to the last episode: two processes that both read first
    # would play the same games and write each twice.
    with ExitStack() as stack:
        parts = []
        for split, of_split in tasks.items():
            folder, setting = _folder_of(config, player, split, of_split)
            stack.enter_context(open_episodes(folder, setting, again=again))
            parts.append(_Part.read(split, of_split, folder, config.evaluation.repeats))
        _say_played_before(parts)
        for part in parts:
            for repeat in range(config.evaluation.repeats):
                seed = repeat_seed(config.seed, repeat)
                part.play_missing(repeat, play, seed=seed, whole=player.whole_repeats)
            part.check_failures(config)
    setting = setting_of(
        config, player.model, player.temperature, weights=player.weights, **player.details
    )
    episodes = {part.split: part.repeats for part in parts}
    report = summarize(episodes, setting, object_reader(config.env.id))
    show(report, player.model)
    for part in parts:
        part.say_first_failure()
    # The report of one split has the name of its folder of episodes; that of several has a digest
    # of all their folders.
    names = [part.folder.name for part in parts]
    name = names[0] if len(names) == 1 else _name(player, "+".join(tasks), short_digest(names))
    path = RunLayout(Path(config.run_folder)).evaluations / f"{name}.json"
    report.write(path)
    (outputs or Outputs()).write(report, player)
    say(f"every game: {path}")
    return report


def set_aside_after(run_folder: Path, step: int) -> None:
    """Rename the reports on a run's rollout steps after `step`, because a resumed run repeats them.

    The repeated steps give other policies. The folders of episodes keep their names: these hold a
    fingerprint of the weights.
    """
    layout = RunLayout(run_folder)
    step_of_report = {path: made for made, path in layout.train.reports().items()}
    for path in layout.evaluations.glob("*.json"):
        own_step = _own_checkpoint(path, run_folder)
        if own_step is not None:
            step_of_report[path] = own_step
    for path, evaluated in sorted(step_of_report.items()):
        if evaluated > step:
            aside = set_aside(path, "before")
            say(f"rollout step {evaluated} is repeated; its earlier evaluation is kept as {aside}")


def _own_checkpoint(path: Path, run_folder: Path) -> int | None:
    """The rollout step of the run's checkpoint that a report is on; None for another policy.

    None for a damaged report too: the command that reads it says so.
    """
    try:
        report = read_report(path)
    except ConfigError:
        return None
    # The report names the checkpoint by the path that was typed, perhaps from another working
    # directory. The name of the run's folder is in it in any case.
    parents = Path(str(report.setting.get("model"))).parts[:-1]
    return report.checkpoint_step if run_folder.resolve().name in parents else None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One split of an evaluation."""

    split: str
    """Its name."""
    tasks: list[Task]
    """The games to play once per repeat."""
    folder: Path
    """The folder of its episodes."""
    repeats: list[list[Trajectory]]
    """The scored episodes of each repeat; new episodes are appended."""

    @classmethod
    def read(cls, split: str, tasks: list[Task], folder: Path, repeats: int) -> "_Part":
        """Read the episodes that earlier calls have played."""
        earlier = [episodes_in(repeat_file(folder, n), tasks) for n in range(repeats)]
        return cls(split=split, tasks=tasks, folder=folder, repeats=earlier)

    def play_missing(self, repeat: int, play: Play, *, seed: int, whole: bool) -> None:
        """Play the missing games of a repeat.

        With `whole`, all games are played, and only the episodes of missing games are added.
        """
        episodes = self.repeats[repeat]
        played = {episode.task.id for episode in episodes}
        missing = [task for task in self.tasks if task.id not in played]
        if not missing:
            return

        def on_end(episode: Trajectory) -> None:
            # Written at once: a kill loses the episodes under way and no others.
            if episode.task.id not in played:
                write_trajectories(repeat_file(self.folder, repeat), [episode], append=True)
                episodes.append(episode)

        label = f"evaluation on {self.split}"
        if len(self.repeats) > 1:
            label += f", repeat {repeat + 1}/{len(self.repeats)}"
        play(self.tasks if whole else missing, label, seed, on_end)

    def check_failures(self, config: Config) -> None:
        """Raise a ValueError if too many tasks could not be played."""
        failed = FailedTasks(
            config.env.id, most=config.workers.max_failed_share, tasks=len(self.tasks)
        )
        failed.add([episode for episodes in self.repeats for episode in episodes])
        failed.check()

    def say_first_failure(self) -> None:
        """Say why the first episode without a score has none, and where all of them are."""
        for repeat, episodes in enumerate(self.repeats):
            for episode in episodes:
                if not episode.trains:
                    why = episode.error or episode.stop_reason.value
                    file = repeat_file(self.folder, repeat)
                    why = with_task(episode.task, why)
                    say(f"{self.split}, the first episode that is not scored: {why}")
                    say(f"see `error` in {file}; the same command plays such episodes again")
                    return


def _say_played_before(parts: list[_Part]) -> None:
    played = sum(len(episodes) for part in parts for episodes in part.repeats)
    if played:
        total = sum(len(part.tasks) * len(part.repeats) for part in parts)
        say(f"{played} of {total} episodes have been played before")


def _folder_of(
    config: Config, player: EvaluatedPlayer, split: str, tasks: list[Task]
) -> tuple[Path, dict[str, Any]]:
    """The folder of a split's episodes, and the setting that its name has the digest of."""
    setting = {
        "version": VERSION,
        "policy": player.identity,
        "temperature": player.temperature,
        **player.details,
        "seed": config.seed,
        "env": config.env.id,
        "env_options": config.env.options,
        "episode": _episode_conditions(config.episode),
        "split": split,
        "tasks": f"{len(tasks)} tasks ({short_digest([asdict(task) for task in tasks])})",
    }
    evaluations = RunLayout(Path(config.run_folder)).evaluations
    return evaluations / _name(player, split, short_digest(setting)), setting


def _episode_conditions(settings: EpisodeSettings) -> dict[str, Any]:
    """The settings of an episode that its result depends on."""
    # An episode that meets this limit is not scored, and is played again.
    conditions = settings.model_dump(exclude={"env_timeout_seconds"})
    # Left out at their defaults, as in the folders of earlier versions.
    for name in ("timeout_seconds", "repeated_action_penalty", "seen_observation_penalty"):
        if conditions[name] == EpisodeSettings.model_fields[name].default:
            del conditions[name]
    return conditions


def _name(player: EvaluatedPlayer, splits: str, digest: str) -> str:
    """The name of a folder or a report, such as `sft-valid_seen-t0.4-1f3a9c2e`."""
    temperature = "" if player.temperature is None else f"-t{player.temperature:g}"
    split_part = re.sub(r"[^\w.+-]+", "-", splits)
    return f"{player.name}-{split_part}{temperature}-{digest}"


def _has_tasks(env: TextEnv, split: str) -> bool:
    try:
        return bool(env.tasks(split))
    except ValueError:
        return False
