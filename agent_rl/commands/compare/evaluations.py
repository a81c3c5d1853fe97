"""The evaluations in a run's folder as plain values, and which of them counts at a rollout step.

RUN/train/evaluations/step-000008.json                       made during training
RUN/evaluations/step-000008-valid_seen-t0.4-1f3a9c2e.json    by `agent-rl evaluate`, a checkpoint
RUN/evaluations/sft-valid_seen-t0.4-5b0d1f77.json            the same, the warm start
RUN/evaluations/final.json                                   the last one of a sweep's run
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.reading import ReadingScore
from agent_rl.evaluation.report import read_report
from agent_rl.evaluation.scores import GameScore
from agent_rl.runs.layout import FINAL_REPORT, RunLayout, StageLayout, step_of

_AFTERWARDS = re.compile(r"(?:sft|(?P<name>step-\d+))-.+\.json")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One policy's evaluation."""

    path: Path
    """Its file."""
    step: int | None
    """The rollout step after which it was made; None if neither its file's name, its setting nor
    its policy says so.
    """
    setting: Mapping[str, Any]
    """The policy and the conditions: model, temperature, seed and so on."""
    splits: Mapping[str, Mapping[str, GameScore]]
    """The games of each split by id; games without a scored repeat are left out."""
    others: tuple[Path, ...] = ()
    """The files of the splits that `path` does not have."""
    reading: Mapping[str, ReadingScore] = field(default_factory=dict)
    """Whether the policy reads, by split; reports of earlier versions do not say."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.name

    @property
    def in_training(self) -> bool:
        """Whether it was made during training: these may play fewer games."""
        return step_of(self.path) is not None

    def episodes(self, split: str) -> int:
        """How many episodes of a split were scored."""
        return sum(len(game.success) for game in self.splits[split].values())


def evaluations_of(
    run: Path, training: StageLayout, config: Config, steps: int, notes: list[str]
) -> dict[int, Evaluation]:
    """A run's evaluations by rollout step; 0 is its warm start.

    If there are several of one step and split, one counts:

    1. `final.json`;
    2. else those with the config's temperature and limits of an episode;
    3. of these the one with most episodes;
    4. else one that was made after training.

    Those of steps beyond `steps` do not count: the run was resumed before them.

    Args:
        run: the run's folder.
        training: the folder of its training.
        config: its config.
        steps: the rollout steps that it has done.
        notes: sentences that a reader has to know are added here.

    Raises:
        ConfigError: an evaluation cannot be read.
    """
    by_step: dict[int, list[Evaluation]] = {}
    for file in sorted(training.evaluations.glob("*.json")):
        step = step_of(file)
        if step is not None:
            by_step.setdefault(step, []).append(read_evaluation(file, step=step))
    for file in sorted(RunLayout(run).evaluations.glob("*.json")):
        named = _AFTERWARDS.fullmatch(file.name)
        if named:
            step = (step_of(Path(named["name"])) or 0) if named["name"] else 0
            by_step.setdefault(step, []).append(read_evaluation(file, step=step))
    final_report = RunLayout(run).final_report
    if final_report.is_file():
        final = read_evaluation(final_report)
        by_step.setdefault(steps if final.step is None else final.step, []).append(final)
    evaluations = {}
    for step in sorted(by_step):
        if step <= steps:
            evaluations[step] = _merged(step, by_step[step], config, notes)
    return evaluations


def read_evaluation(path: Path, *, step: int | None = None) -> Evaluation:
    """Read an evaluation's report.

    Args:
        path: its file.
        step: its rollout step; by default the one in the file's name, in the setting, or in the
            path of the checkpoint.

    Raises:
        ConfigError: the report is damaged, or of another version.
    """
    try:
        report = read_report(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; or move the file away to compare the rest") from error
    if step is None:
        step = step_of(path)
    if step is None:
        step = report.setting.get("rollout_step")
    if step is None:
        step = report.checkpoint_step
    splits, reading = {}, {}
    for name, split in report.splits.items():
        splits[name] = {game.id: game for game in split.games if game.success}
        if split.reading is not None:
            reading[name] = split.reading
    return Evaluation(path=path, step=step, setting=report.setting, splits=splits, reading=reading)


def _merged(
    step: int, several: Sequence[Evaluation], config: Config, notes: list[str]
) -> Evaluation:
    """One evaluation of a step, with each split from the evaluation that counts on it."""
    counting: dict[str, Evaluation] = {}
    names = dict.fromkeys(split for evaluation in several for split in evaluation.splits)
    for split in names:
        having = [evaluation for evaluation in several if split in evaluation.splits]
        best = _best(having, split, config)
        ignored = []
        for other in having:
            # One in training is smaller by design. One with the same outcomes is a copy of the
            # best, as `final.json` has one under its long name.
            differs = other.splits[split] != best.splits[split]
            if other is not best and differs and not other.in_training:
                ignored.append(other.name)
        if ignored:
            notes.append(
                f"{best.path}: on {split} this evaluation of its policy counts; not: "
                f"{', '.join(ignored)}"
            )
        differences = _differences(best, config)
        if differences and best not in counting.values():
            notes.append(f"{best.path}: not played as the run's config says: {differences}")
        counting[split] = best
    in_order = sorted(counting.values(), key=lambda evaluation: evaluation.name != FINAL_REPORT)
    first = in_order[0]
    files = list(dict.fromkeys(evaluation.path for evaluation in in_order))
    reading = {}
    for split, evaluation in counting.items():
        if split in evaluation.reading:
            reading[split] = evaluation.reading[split]
    return Evaluation(
        path=first.path,
        step=step,
        setting=first.setting,
        splits={split: evaluation.splits[split] for split, evaluation in counting.items()},
        others=tuple(files[1:]),
        reading=reading,
    )


def _best(several: Sequence[Evaluation], split: str, config: Config) -> Evaluation:
    """The evaluation that counts on a split; of equal ones the last."""

    def rank(evaluation: Evaluation) -> tuple[bool, bool, int, bool]:
        return (
            evaluation.name == FINAL_REPORT,
            not _differences(evaluation, config),
            evaluation.episodes(split),
            not evaluation.in_training,
        )

    return sorted(several, key=rank)[-1]


def _differences(evaluation: Evaluation, config: Config) -> str:
    """How an evaluation's recorded conditions differ from the config's; empty if they do not."""
    expected = {
        "temperature": config.evaluation.temperature,
        "max_turns": config.episode.max_turns,
        "max_action_tokens": config.episode.max_action_tokens,
        "max_thought_tokens": config.episode.max_thought_tokens,
    }
    differences = []
    for key, value in expected.items():
        recorded = evaluation.setting.get(key, value)
        if recorded != value:
            differences.append(f"{key} {recorded} and not {value}")
    return ", ".join(differences)
