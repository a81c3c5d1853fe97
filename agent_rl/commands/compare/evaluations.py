"""The evaluations in a run's folder, read into plain values, and which of them counts at which
rollout step.

RUN/train/evaluations/step-000008.json                    made during training
RUN/evaluations/step-000008-valid_seen-t0.4-1f3a9c2e.json made by `agent-rl evaluate` of a
checkpoint RUN/evaluations/sft-valid_seen-t0.4-5b0d1f77.json         and of the warm start
RUN/evaluations/final.json                                the last one of a sweep's run
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.report import VERSION
from agent_rl.runs.layout import FINAL_REPORT, checkpoint_step_in

_IN_TRAINING = re.compile(r"step-(?P<step>\d+)\.json")
_AFTERWARDS = re.compile(r"(?:sft|step-(?P<step>\d+))-.+\.json")


class Game(BaseModel, frozen=True):
    """One game of an evaluation: the outcomes of its repeats, in their order."""

    id: str
    family: str
    success: tuple[bool, ...]

    @property
    def mean(self) -> float:
        return sum(self.success) / len(self.success)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One policy's evaluation, from the file `path`; `step` is the rollout step after which it was
    made, if any.

    `splits` has the games of each split by id; a game of which no repeat could be scored is not
    among them. `others` are the files of those splits that `path` does not have.
    """

    path: Path
    step: int | None
    setting: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Game]]
    others: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name


def evaluations_of(
    run: Path, inner: Path, config: Config, steps: int, notes: list[str]
) -> dict[int, Evaluation]:
    """A run's evaluations by rollout step, 0 being its warm start; `inner` is the folder of its
    training.

    Of several of one step and split one counts: `final.json`; else one with the config's own
    temperature and limits of an episode; of these the one of most episodes; and at last one that
    was made afterwards. Those of steps beyond `steps` are of a run that was resumed before them,
    and do not count. What a reader ought to know goes to `notes`.

    Raises:
        ConfigError: an evaluation cannot be read.
    """
    by_step: dict[int, list[Evaluation]] = {}
    patterns = ((inner, _IN_TRAINING), (run, _AFTERWARDS))
    for folder, pattern in patterns:
        for file in sorted((folder / "evaluations").glob("*.json")):
            if named := pattern.fullmatch(file.name):
                step = int(named["step"] or 0)
                by_step.setdefault(step, []).append(read_evaluation(file, step=step))
    final = run / "evaluations" / FINAL_REPORT
    if final.is_file():
        read = read_evaluation(final)
        by_step.setdefault(steps if read.step is None else read.step, []).append(read)
    return {
        step: _merged(step, several, config, notes)
        for step, several in sorted(by_step.items())
        if step <= steps
    }


def read_evaluation(path: Path, *, step: int | None = None) -> Evaluation:
    """Read an evaluation's JSON. `step` where it is known; else its name or its setting says it, or
    the checkpoint's.

    Raises:
        ConfigError: it is not whole, of another version, or lists a game twice.
    """
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{path}: not whole JSON ({error}); if it is still being written, wait; or delete it"
        ) from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise ConfigError(
            f"{path}: version: {version}; this reads {VERSION}; evaluate again with `agent-rl evaluate "
            f"CONFIG --json {path}`, or move the file away to compare the rest"
        )
    try:
        report = _Report.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {where}: {first['msg']}; no evaluation of this version; evaluate again"
        ) from error
    if step is None:
        named = _IN_TRAINING.fullmatch(path.name)
        step = int(named["step"]) if named else report.setting.get("rollout_step")
    if step is None:
        step = checkpoint_step_in(str(report.setting.get("model")))
    splits = {name: _by_id(path, name, split.games) for name, split in report.splits.items()}
    return Evaluation(path=path, step=step, setting=report.setting, splits=splits)


class _Split(BaseModel):
    games: tuple[Game, ...]


class _Report(BaseModel):
    setting: dict[str, Any]
    splits: dict[str, _Split]


def _merged(
    step: int, several: Sequence[Evaluation], config: Config, notes: list[str]
) -> Evaluation:
    """One evaluation of a step, from the one that counts on each split."""
    counts: dict[str, Evaluation] = {}
    for split in dict.fromkeys(chain.from_iterable(one.splits for one in several)):
        *less, best = sorted(
            (one for one in several if split in one.splits),
            key=lambda one: (
                one.name == FINAL_REPORT,
                not _differs(one, config),
                sum(len(game.success) for game in one.splits[split].values()),
                not _IN_TRAINING.fullmatch(one.name),
            ),
        )
        counts[split] = best
        others = [
            one.name
            for one in less
            # In training it is less; and one with the same outcomes is a copy, as a final one has.
            if not _IN_TRAINING.fullmatch(one.name) and one.splits[split] != best.splits[split]
        ]
        if others:
            notes.append(
                f"{best.path}: on {split} this evaluation of its policy counts; not: {', '.join(others)}"
            )
        if (differs := _differs(best, config)) and best not in list(counts.values())[:-1]:
            notes.append(f"{best.path}: not played as the run's config says: {differs}")
    files = list(
        dict.fromkeys(
            one.path for one in sorted(counts.values(), key=lambda one: one.name != FINAL_REPORT)
        )
    )
    first = next(one for one in several if one.path == files[0])
    splits = {split: one.splits[split] for split, one in counts.items()}
    return Evaluation(
        path=files[0], step=step, setting=first.setting, splits=splits, others=tuple(files[1:])
    )


def _differs(evaluation: Evaluation, config: Config) -> str:
    """In what an evaluation was not played as the config says, of what it tells; empty where it
    was.
    """
    own = {
        "temperature": config.evaluation.temperature,
        "max_turns": config.episode.max_turns,
        "max_action_tokens": config.episode.max_action_tokens,
    }
    told = evaluation.setting
    return ", ".join(
        f"{key} {told[key]} and not {own[key]}"
        for key in own
        if key in told and told[key] != own[key]
    )


def _by_id(path: Path, split: str, games: Sequence[Game]) -> dict[str, Game]:
    found: dict[str, Game] = {}
    for game in games:
        if game.id in found:
            raise ConfigError(
                f"{path}: splits.{split}: game {game.id!r} is there twice; evaluate again"
            )
        if game.success:
            found[game.id] = game
    return found
