"""Success per family and split with its uncertainty, from finished episodes; as values, and as
JSON.

A game counts by the mean over its repeats, so that success is a mean over games, whatever happened
to single episodes. There is no best of several: every repeat that says something about the policy
counts.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from agent_rl.config import ConfigError
from agent_rl.evaluation.statistics import bootstrap_by_game, bootstrap_gap, wilson_interval
from rollouts import StopReason, Trajectory
from rollouts.scripted_episode import NO_POLICY

VERSION = 2
"""Of the JSON. Raise it with every change that a reader of the files would have to know."""
FINAL = "final.json"
"""The name of the last report of a sweep's run, and of that of its start, in the folder
`evaluations`.
"""
_GAP = ("valid_seen", "valid_unseen")

Repeats = Sequence[Sequence[Trajectory]]
"""The episodes of some games: a sequence per repeat, each with at most one episode of a game, in
any order.
"""


@dataclass(frozen=True, kw_only=True)
class RepeatScore:
    """One repeat: `n` games, each played once. `interval` is the 95 % Wilson interval of `success`."""

    n: int
    successes: int
    success: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, episodes: Sequence[Trajectory]) -> "RepeatScore":
        n, successes = len(episodes), sum(t.success for t in episodes)
        return cls(
            n=n,
            successes=successes,
            success=_ratio(successes, n),
            interval=wilson_interval(successes, n),
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """What the scored episodes of `n` games came to; 0 where there is none.

    `success` is the mean over games, `interval` its 95 % interval: Wilson's for one repeat, the
    bootstrap by game for more. `successes` and the means are over all episodes of all repeats:
    `turns_to_success` over those that were won (None: none was), `invalid_action_rate` is the share
    of turns whose action could not be parsed or was not admissible. Tokens are those of whole
    episodes and those that the policy sampled; None for players without a model.
    """

    n: int
    repeats: int
    successes: int
    success: float
    interval: tuple[float, float]
    per_repeat: tuple[RepeatScore, ...]
    mean_turns: float
    turns_to_success: float | None
    invalid_action_rate: float
    tokens_per_episode: float | None
    agent_tokens_per_episode: float | None

    @classmethod
    def of(cls, repeats: Repeats) -> "Score":
        per_repeat = tuple(RepeatScore.of(episodes) for episodes in repeats)
        episodes = list(chain.from_iterable(repeats))
        outcomes = [[t.success for t in of_game] for of_game in _by_game(repeats).values()]
        turns = sum(len(t.turns) for t in episodes)
        sampled = any(
            turn.completion.policy_version != NO_POLICY for t in episodes for turn in t.turns
        )
        return cls(
            n=len(outcomes),
            repeats=len(repeats),
            successes=sum(score.successes for score in per_repeat),
            success=_ratio(sum(map(fmean, outcomes)), len(outcomes)),
            interval=per_repeat[0].interval if len(repeats) == 1 else bootstrap_by_game(outcomes),
            per_repeat=per_repeat,
            mean_turns=_ratio(turns, len(episodes)),
            turns_to_success=fmean(won)
            if (won := [len(t.turns) for t in episodes if t.success])
            else None,
            invalid_action_rate=_ratio(sum(t.invalid_actions for t in episodes), turns),
            tokens_per_episode=_ratio(sum(len(t.token_ids) for t in episodes), len(episodes))
            if sampled
            else None,
            agent_tokens_per_episode=_ratio(
                sum(sum(t.action_mask) for t in episodes), len(episodes)
            )
            if sampled
            else None,
        )


@dataclass(frozen=True, kw_only=True)
class Game:
    """One game: success and turns of each of its repeats that was scored, in the repeats' order."""

    id: str
    family: str
    success: tuple[bool, ...]
    turns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """A split: overall, by family, game by game.

    Episodes whose ending says nothing about the policy (`StopReason.trains` is false) are in no
    score; `failures` counts them by reason. A game of which no repeat was scored is not among
    `games`.
    """

    overall: Score
    families: dict[str, Score]
    games: tuple[Game, ...]
    stop_reasons: dict[str, int]
    failures: dict[str, int]

    @classmethod
    def of(cls, repeats: Repeats) -> "SplitReport":
        scored = [[t for t in episodes if t.stop_reason.trains] for episodes in repeats]
        every = list(chain.from_iterable(repeats))
        families = sorted({t.task.family for t in every})
        return cls(
            overall=Score.of(scored),
            families={
                name: Score.of(
                    [[t for t in episodes if t.task.family == name] for episodes in scored]
                )
                for name in families
            },
            games=tuple(
                Game(
                    id=name,
                    family=episodes[0].task.family,
                    success=tuple(t.success for t in episodes),
                    turns=tuple(len(t.turns) for t in episodes),
                )
                for name, episodes in _by_game(scored).items()
            ),
            stop_reasons=_counts(t.stop_reason for t in every if t.stop_reason.trains),
            failures=_counts(t.stop_reason for t in every if not t.stop_reason.trains),
        )

    def outcomes(self, family: str | None = None) -> list[tuple[bool, ...]]:
        """The outcomes of each game, of those of a family if one is named."""
        return [game.success for game in self.games if family in (None, game.family)]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Success on one split minus that on another, with the 95 % interval of the bootstrap by game."""

    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The first of two `splits` minus the second: what a policy loses in rooms that it has not
    seen.
    """

    splits: tuple[str, str]
    overall: Difference
    families: dict[str, Difference]


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """An evaluation, with what is needed to run it again. `gap` is None where there is one split
    only.
    """

    setting: dict[str, Any]
    splits: dict[str, SplitReport]
    gap: Gap | None

    @property
    def overall(self) -> Score:
        """The score on the first split."""
        return next(iter(self.splits.values())).overall

    def record(self) -> dict[str, Any]:
        """What stands in the JSON."""
        return {"version": VERSION, **asdict(self)}

    def write(self, path: str | Path) -> None:
        """Write the JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.record(), indent=2) + "\n"
        if path.exists() and not path.is_file():
            path.write_text(text)  # a pipe or a device
            return
        path = path.resolve()
        unfinished = path.with_name(f"{path.name}.unfinished")
        unfinished.write_text(text)
        os.replace(unfinished, path)


def summarize(episodes: Mapping[str, Repeats], setting: Mapping[str, Any]) -> EvaluationReport:
    """Score the episodes of each split. `setting` is written beside the scores: model, temperature,
    seed and so on.
    """
    splits = {split: SplitReport.of(repeats) for split, repeats in episodes.items()}
    return EvaluationReport(setting=dict(setting), splits=splits, gap=_gap(splits))


def checkpoint_step(setting: Mapping[str, Any]) -> int | None:
    """The rollout step of the checkpoint that an evaluation was of; None where it was of another
    policy.
    """
    named = re.fullmatch(r".*/train/checkpoints/step-(\d+)(/model)?", str(setting.get("model")))
    return int(named[1]) if named else None


def read_report(path: Path) -> EvaluationReport:
    """Read what `EvaluationReport.write` wrote.

    Raises:
        ConfigError: it is damaged, or of another version.
    """
    return in_file(path, report_of)


_T = TypeVar("_T")


def in_file(path: Path, read: Callable[[Any], _T]) -> _T:
    """What `read` makes of the JSON in a file; its ConfigErrors get the file's name."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is no evaluation report ({error}); evaluate again") from error
    try:
        return read(record)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def report_of(record: Any) -> EvaluationReport:
    """The report that a record spells.

    Raises:
        ConfigError: it is none, or of another version.
    """
    if not isinstance(record, dict) or ("overall" not in record and "version" not in record):
        raise ConfigError("is no evaluation report; evaluate again")
    if (version := record.get("version", 1)) != VERSION:
        raise ConfigError(
            f"is a report of version {version}, and this is version {VERSION}; evaluate again"
        )
    try:
        return _REPORT.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"is no evaluation report ({where}: {first['msg']}); evaluate again"
        ) from error


_REPORT = TypeAdapter(EvaluationReport)


def _by_game(repeats: Repeats) -> dict[str, list[Trajectory]]:
    """The episodes of each game, in the repeats' order; games by id, whatever the order in which
    they ended.
    """
    games: dict[str, list[Trajectory]] = {}
    for episode in chain.from_iterable(repeats):
        games.setdefault(episode.task.id, []).append(episode)
    return dict(sorted(games.items()))


def _gap(splits: Mapping[str, SplitReport]) -> Gap | None:
    if len(splits) < 2:
        return None
    first, second = _GAP if all(name in splits for name in _GAP) else tuple(splits)[:2]
    one, other = splits[first], splits[second]
    families = [family for family in one.families if family in other.families]
    return Gap(
        splits=(first, second),
        overall=_difference(one.overall, one.outcomes(), other.overall, other.outcomes()),
        families={
            family: _difference(
                one.families[family],
                one.outcomes(family),
                other.families[family],
                other.outcomes(family),
            )
            for family in families
        },
    )


def _difference(
    one: Score, a: Sequence[Sequence[bool]], other: Score, b: Sequence[Sequence[bool]]
) -> Difference:
    return Difference(difference=one.success - other.success, interval=bootstrap_gap(a, b))


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


def _counts(reasons: Iterable[StopReason]) -> dict[str, int]:
    return {
        reason.value: n
        for reason, n in sorted(Counter(reasons).items(), key=lambda item: item[0].value)
    }
