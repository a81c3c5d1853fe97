"""Runs compared, as values: learning curves, success per family, paired tests, the mechanism, by
variant.

A pure function of `Run`s, the same every time; `compare_report` and `compare_figures` show it.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_rl.commands.compare.pairs import Games, PairedTest, paired_tests
from agent_rl.commands.compare.runs import Found, Run
from agent_rl.commands.compare.seeds import Curve, Spread, curve, smoothed, spread
from agent_rl.commands.compare.variants import differing, grouped, notes_on
from agent_rl.config import ConfigError
from agent_rl.config.keys import flat_values
from agent_rl.evaluation.statistics import interval_of_games

RECENT = 10
"""The success at the end of training is the mean over so many last rollout steps."""
OVERALL = "all"
"""What stands in the place of a family's name for all games."""

Line = Mapping[str, float]
MECHANISM: Mapping[str, Callable[[Line], float]] = {
    "ratio_p01": lambda line: line["learner/ratio_p01"],
    "ratio_p99": lambda line: line["learner/ratio_p99"],
    "ratio_range": lambda line: line["learner/ratio_p99"] - line["learner/ratio_p01"],
    "log_ratio_rms": lambda line: line["learner/log_ratio_rms"],
    "clip_fraction_low": lambda line: line["learner/clip_fraction_low"],
    "clip_fraction_high": lambda line: line["learner/clip_fraction_high"],
    "clip_fraction": lambda line: (
        line["learner/clip_fraction_low"] + line["learner/clip_fraction_high"]
    ),
    "grad_norm": lambda line: line["learner/grad_norm"],
    "entropy": lambda line: line["learner/entropy"],
    "mismatch_abs_mean": lambda line: line["learner/mismatch_abs_mean"],
}
"""What is looked at over training, from a line of metrics; `docs/metrics.md` says what the names mean."""


@dataclass(frozen=True, kw_only=True)
class FamilyScore:
    """Success on the games of a family, or on all: the mean over games, a game counting by its mean
    over seeds and repeats. `interval` is the bootstrap by game; Wilson's where each game was played
    once.
    """

    games: int
    episodes: int
    success: float
    interval: tuple[float, float]
    over_seeds: Spread


@dataclass(frozen=True, kw_only=True)
class Phases:
    """A metric's mean over all rollout steps, over the first quarter and over the last; `change` is
    the last less the first. `deviation` is from step to step: the root mean square of the
    differences between a rollout step and the next, over the square root of 2. It is the standard
    deviation of what is independent from step to step, whatever the metric does slowly, as with a
    falling learning rate (von Neumann's mean square successive difference, 1941).
    """

    whole: Spread
    first: Spread
    last: Spread
    change: Spread
    deviation: Spread


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in a line. `tokens` are those of its episodes, `seconds` those of its rollout steps."""

    name: str
    seed: int
    steps: int
    rollout_steps: int
    recent_success: float
    evaluation: str | None
    evaluated_after: int | None
    seconds: float
    tokens: int

    @property
    def is_finished(self) -> bool:
        return self.steps >= self.rollout_steps


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the seeds of one setting came to. `scores` by split and family; without an evaluation a
    split is not there.

    `differs`: its values of the keys in which variants differ. `clip`: what its clip fractions
    count.
    """

    label: str
    differs: Mapping[str, Any]
    clip: str
    runs: Sequence[RunSummary]
    training: Curve
    held_out: Mapping[str, Curve]
    recent_success: Spread
    scores: Mapping[str, Mapping[str, FamilyScore]]
    mechanism: Mapping[str, Phases]
    mechanism_curves: Mapping[str, Curve]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All of it. `starts`: success of what sweeps began with, by label and split. `tests` by split;
    none where they were not asked for or there is one variant. `notes`: what a reader has to know
    about these runs.
    """

    env: str
    splits: Sequence[str]
    variants: Sequence[Variant]
    starts: Mapping[str, Mapping[str, Mapping[str, FamilyScore]]]
    tests: Mapping[str, Sequence[PairedTest]]
    notes: Sequence[str]


def compare(
    found: Found,
    *,
    splits: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    against: str | None = None,
    paired: bool = True,
) -> Comparison:
    """Compare runs on the `splits` named, else on all that every final evaluation has.

    `labels`: names by globs of run folders. `against`: test every variant against this one only.
    `paired`: test at all.

    Raises:
        ConfigError: a run twice, a split that is not there, a label that fits nothing, tests over
        different games.
    """
    variants = grouped(found.runs, labels or {})
    if against is not None and against not in variants:
        raise ConfigError(f"--against {against}: no such variant; there are: {', '.join(variants)}")
    chosen, left_out = _splits(found.runs, splits)
    tests: dict[str, Sequence[PairedTest]] = {}
    if paired and len(variants) > 1:
        for split in chosen:
            evaluated = {label: _final_games(runs, split) for label, runs in variants.items()}
            tests[split] = paired_tests(split, evaluated, against)
    keys = differing(variants.values())
    return Comparison(
        env=", ".join(sorted({run.config.env.id for run in found.runs})),
        splits=chosen,
        variants=[_variant(label, runs, chosen, keys) for label, runs in variants.items()],
        starts={
            label: {
                split: scores({0: games}) for split in chosen if (games := start.splits.get(split))
            }
            for label, start in found.starts.items()
        },
        tests=tests,
        notes=[*found.notes, *left_out, *notes_on(variants)],
    )


def scores(by_seed: Mapping[int, Games]) -> dict[str, FamilyScore]:
    """Success on all games, then by family, from each seed's games; empty where there is no seed."""
    families = sorted({game.family for games in by_seed.values() for game in games.values()})
    parts = {OVERALL: by_seed} if by_seed else {}
    for family in families:
        of_family = {
            seed: {name: game for name, game in games.items() if game.family == family}
            for seed, games in by_seed.items()
        }
        parts[family] = {seed: games for seed, games in of_family.items() if games}
    return {name: _score(part) for name, part in parts.items()}


def _score(by_seed: Mapping[int, Games]) -> FamilyScore:
    ids = sorted({name for games in by_seed.values() for name in games})
    outcomes = [[games[name].mean for games in by_seed.values() if name in games] for name in ids]
    episodes = sum(len(game.success) for games in by_seed.values() for game in games.values())
    success = statistics.fmean(map(statistics.fmean, outcomes))
    return FamilyScore(
        games=len(ids),
        episodes=episodes,
        success=success,
        interval=interval_of_games(outcomes),
        over_seeds=spread({seed: _mean_success(games) for seed, games in by_seed.items()}),
    )


def _mean_success(games: Games) -> float:
    return statistics.fmean(game.mean for game in games.values())


def _splits(runs: Sequence[Run], named: Sequence[str]) -> tuple[list[str], list[str]]:
    """The splits to compare on, and notes on those that are left out."""
    finals = [(run.name, run.final) for run in runs if run.final is not None]
    if named and not finals:
        raise ConfigError(
            f"--split {named[0]}: none of these runs has an evaluation; set train.eval_every, or use `agent-rl sweep`"
        )
    for split in named:
        for name, final in finals:
            if not final.splits.get(split):
                there = ", ".join(final.splits) or "none"
                raise ConfigError(
                    f"--split {split}: not in {final.name}, the final evaluation of {name}, which has: {there}; choose "
                    "another, or evaluate the run on it"
                )
    every = list(
        dict.fromkeys(
            split for _, final in finals for split, games in final.splits.items() if games
        )
    )
    common = [split for split in every if all(final.splits.get(split) for _, final in finals)]
    chosen = list(dict.fromkeys(named)) or common
    left_out = [split for split in every if split not in common and not named]
    return chosen, [
        f"split {split}: only some of the final evaluations have it; left out" for split in left_out
    ]


def _variant(
    label: str, runs: Sequence[Run], splits: Sequence[str], keys: Sequence[str]
) -> Variant:
    values = flat_values(runs[0].config)
    objective = runs[0].config.learner.chosen_objective
    bounds = (
        f" -{objective.epsilon:g}, +{objective.epsilon_high:g}" if objective.clip != "none" else ""
    )
    return Variant(
        label=label,
        differs={key: values.get(key) for key in keys},
        clip=f"{objective.clip}{bounds}",
        runs=[_summary(run) for run in runs],
        training=_training_curve(runs, lambda line: line["rollout/success"]),
        held_out={split: _held_out(runs, split) for split in splits},
        recent_success=spread({run.config.seed: _recent(run) for run in runs}),
        scores={split: scores(games) for split in splits if (games := _final_games(runs, split))},
        mechanism={name: _phases(runs, value) for name, value in MECHANISM.items()},
        mechanism_curves={name: _training_curve(runs, value) for name, value in MECHANISM.items()},
    )


def _final_games(runs: Sequence[Run], split: str) -> dict[int, Games]:
    finals = {run.config.seed: run.final for run in runs if run.final is not None}
    return {seed: games for seed, final in finals.items() if (games := final.splits.get(split))}


def _summary(run: Run) -> RunSummary:
    return RunSummary(
        name=run.name,
        seed=run.config.seed,
        steps=run.steps,
        rollout_steps=run.config.train.rollout_steps,
        recent_success=_recent(run),
        evaluation=run.final.name if run.final else None,
        evaluated_after=run.evaluated_after,
        seconds=sum(line["time/seconds"] for line in run.metrics),
        tokens=round(
            sum(line["time/tokens_per_second"] * line["time/seconds"] for line in run.metrics)
        ),
    )


def _recent(run: Run) -> float:
    return statistics.fmean(line["rollout/success"] for line in run.metrics[-RECENT:])


def _training_curve(runs: Sequence[Run], value: Callable[[Line], float]) -> Curve:
    return curve({run.config.seed: smoothed([value(line) for line in run.metrics]) for run in runs})


def _held_out(runs: Sequence[Run], split: str) -> Curve:
    return curve(
        {
            run.config.seed: {
                step: _mean_success(games)
                for step, evaluation in sorted(run.evaluations.items())
                if (games := evaluation.splits.get(split))
            }
            for run in runs
        }
    )


def _phases(runs: Sequence[Run], value: Callable[[Line], float]) -> Phases:
    found: dict[str, dict[int, float]] = {
        name: {} for name in ("whole", "first", "last", "change", "deviation")
    }
    for run in runs:
        values = [value(line) for line in run.metrics]
        quarter = max(1, len(values) // 4)
        first, last = statistics.fmean(values[:quarter]), statistics.fmean(values[-quarter:])
        numbers = (statistics.fmean(values), first, last, last - first, _from_step_to_step(values))
        for of_seeds, number in zip(found.values(), numbers, strict=True):
            of_seeds[run.config.seed] = number
    return Phases(**{name: spread(of_seeds) for name, of_seeds in found.items()})


def _from_step_to_step(values: Sequence[float]) -> float:
    squares = [(after - before) ** 2 / 2 for before, after in itertools.pairwise(values)]
    return math.sqrt(statistics.fmean(squares)) if squares else 0.0
