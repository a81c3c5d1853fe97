"""The comparison of runs, as values: learning curves, success per family, paired tests, mechanism.

A pure function of `Run`s with the same result every time. `tables`, `figures` and `report` show it.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent_rl.commands.compare.evaluations import Evaluation
from agent_rl.commands.compare.mechanism import MECHANISM, MetricsLine
from agent_rl.commands.compare.pairs import Games, PairedTest, mean_success, paired_tests
from agent_rl.commands.compare.runs import Found, Run
from agent_rl.commands.compare.seeds import (
    Curve,
    Spread,
    curve,
    from_step_to_step,
    over_seeds,
    smoothed,
)
from agent_rl.commands.compare.times import mean_times, seconds_of_step
from agent_rl.commands.compare.variants import differing, grouped, notes_on
from agent_rl.config import ConfigError
from agent_rl.config.keys import flat_values
from agent_rl.evaluation.statistics import bootstrap_by_game, interval_of_games

RECENT = 10
"""Success at the end of training is the mean over this many last rollout steps."""
OVERALL = "all"
"""Stands for all games among the names of families."""
Value = Callable[[MetricsLine], float | None]
"""Reads a metric from a line of metrics; None if the line lacks it."""


@dataclass(frozen=True, kw_only=True)
class FamilyScore:
    """Success on the games of one family, or on all games."""

    games: int
    """How many games were played."""
    episodes: int
    """How many episodes, over all seeds and repeats."""
    success: float
    """The mean over games; a game counts by its mean over seeds and repeats."""
    interval: tuple[float, float]
    """The 95 % bootstrap interval by game; Wilson's if each game was played once."""
    over_seeds: Spread
    """The mean success of each seed, and their centre."""


@dataclass(frozen=True, kw_only=True)
class Phases:
    """A metric in the phases of training, over seeds: of the rollout steps that have it."""

    whole: Spread
    """The mean over all rollout steps."""
    first: Spread
    """The mean over the first quarter of the rollout steps."""
    last: Spread
    """The mean over the last quarter."""
    change: Spread
    """`last` minus `first`."""
    deviation: Spread
    """The deviation from step to step: see `from_step_to_step`."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in a line."""

    name: str
    """The name of its folder."""
    seed: int
    """Its config's `seed`."""
    steps: int
    """The rollout steps that it has done."""
    rollout_steps: int
    """The rollout steps that its config asks for."""
    recent_success: float
    """Success in training, the mean over the last `RECENT` rollout steps."""
    evaluation: str | None
    """The file name of its final evaluation."""
    evaluated_after: int | None
    """The rollout step after which the final evaluation was made."""
    seconds: float
    """The wall-clock time of its rollout steps, without checkpoints and evaluations."""
    tokens: int
    """The tokens of all episodes that it trained on."""

    @property
    def is_finished(self) -> bool:
        """Whether all rollout steps are done."""
        return self.steps >= self.rollout_steps


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The results of one setting, over its seeds."""

    label: str
    """Its name: the values in which it differs from the others, or a given name."""
    differs: Mapping[str, Any]
    """Its values of the keys in which the variants differ."""
    clip: str
    """The clip and its bounds, which its clip fractions count."""
    runs: Sequence[RunSummary]
    """Its runs, by seed."""
    training: Curve
    """Success in training, smoothed."""
    held_out: Mapping[str, Curve]
    """Success of all evaluations, by split."""
    recent_success: Spread
    """Success in the last `RECENT` rollout steps."""
    scores: Mapping[str, Mapping[str, FamilyScore]]
    """Success of the final evaluations by split and family; splits without any are absent."""
    reading: Mapping[str, Mapping[str, Spread]]
    """The shares of `ReadingScore` in the final evaluations, by split and name; unknown ones are
    absent."""
    mechanism: Mapping[str, Phases]
    """The metrics of `MECHANISM` by name; those that a run has no value of are absent."""
    mechanism_curves: Mapping[str, Curve]
    """The same metrics over training, smoothed."""
    times: Mapping[str, float]
    """The metrics of `TIMES` by name, mean over seeds; empty if a run lacks some."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All results."""

    env: str
    """The environment's id; several ids have commas between."""
    splits: Sequence[str]
    """The splits that are compared."""
    variants: Sequence[Variant]
    """In the order in which their runs were given."""
    starts: Mapping[str, Mapping[str, Mapping[str, FamilyScore]]]
    """Success of the shared starts of sweeps, by label, split and family."""
    tests: Mapping[str, Sequence[PairedTest]]
    """Paired tests by split; empty if they were not asked for or there is one variant."""
    notes: Sequence[str]
    """Sentences that a reader of the numbers has to know."""


def compare(
    found: Found,
    *,
    splits: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    against: str | None = None,
    paired: bool = True,
) -> Comparison:
    """Compare runs.

    Args:
        found: the runs.
        splits: the splits to compare on; by default all that every final evaluation has.
        labels: names of variants, each with a glob that its runs' names match.
        against: test every variant against this one only.
        paired: whether to make paired tests.

    Raises:
        ConfigError: a run is given twice, a split is missing, a label matches nothing, or the tests
            would be over different games.
    """
    variants = grouped(found.runs, labels or {})
    if against is not None and against not in variants:
        raise ConfigError(f"--against {against}: no such variant; there are: {', '.join(variants)}")
    compared, split_notes = _splits(found.runs, splits)
    tests: dict[str, Sequence[PairedTest]] = {}
    if paired and len(variants) > 1:
        for split in compared:
            evaluated = {label: _final_games(runs, split) for label, runs in variants.items()}
            tests[split] = paired_tests(split, evaluated, against)
    keys = differing(variants.values())
    starts = {label: _start_scores(start, compared) for label, start in found.starts.items()}
    return Comparison(
        env=", ".join(sorted({run.config.env.id for run in found.runs})),
        splits=compared,
        variants=[_variant(label, runs, compared, keys) for label, runs in variants.items()],
        starts=starts,
        tests=tests,
        notes=[*found.notes, *split_notes, *notes_on(variants)],
    )


def scores(by_seed: Mapping[int, Games]) -> dict[str, FamilyScore]:
    """Success on all games, then by family, from each seed's games; empty if there is no seed."""
    if not by_seed:
        return {}
    by_family: dict[str, dict[int, dict[str, Any]]] = {}
    for seed, games in by_seed.items():
        for name, game in games.items():
            by_family.setdefault(game.family, {}).setdefault(seed, {})[name] = game
    result = {OVERALL: _score(by_seed)}
    for family in sorted(by_family):
        result[family] = _score(by_family[family])
    return result


def _score(by_seed: Mapping[int, Games]) -> FamilyScore:
    outcomes: dict[str, list[float]] = {}
    episodes = 0
    for games in by_seed.values():
        for name, game in games.items():
            outcomes.setdefault(name, []).append(game.mean)
            episodes += len(game.success)
    # Sorted: the bootstrap draws by position, and the order in the files must not matter.
    by_game = [outcomes[name] for name in sorted(outcomes)]
    success = statistics.fmean(map(statistics.fmean, by_game))
    # A number here may be the mean of several repeats, which `interval_of_games` cannot see.
    each_once = episodes == len(by_game)
    interval = interval_of_games(by_game) if each_once else bootstrap_by_game(by_game)
    seed_means = {seed: mean_success(games) for seed, games in by_seed.items()}
    return FamilyScore(
        games=len(by_game),
        episodes=episodes,
        success=success,
        interval=interval,
        over_seeds=over_seeds(seed_means),
    )


def _start_scores(start: Evaluation, splits: Sequence[str]) -> dict[str, Mapping[str, FamilyScore]]:
    """The success of a sweep's start on the splits that it was evaluated on."""
    by_split: dict[str, Mapping[str, FamilyScore]] = {}
    for split in splits:
        games = start.splits.get(split)
        if games:
            by_split[split] = scores({0: games})
    return by_split


def _splits(runs: Sequence[Run], named: Sequence[str]) -> tuple[list[str], list[str]]:
    """The splits to compare on, and notes on those that are left out."""
    finals = [(run.name, run.final) for run in runs if run.final is not None]
    if named:
        _refuse_missing_splits(finals, named)
        return list(dict.fromkeys(named)), []
    # Keys of a dict: each split once, in the order in which it first appears.
    every: dict[str, None] = {}
    for _, final in finals:
        every.update({split: None for split, games in final.splits.items() if games})
    common, left_out = [], []
    for split in every:
        if all(final.splits.get(split) for _, final in finals):
            common.append(split)
        else:
            left_out.append(f"split {split}: only some of the final evaluations have it; left out")
    return common, left_out


def _refuse_missing_splits(finals: Sequence[tuple[str, Evaluation]], named: Sequence[str]) -> None:
    if not finals:
        raise ConfigError(
            f"--split {named[0]}: none of these runs has an evaluation; set train.eval_every, or "
            "use `agent-rl sweep`"
        )
    for split in named:
        for name, final in finals:
            if not final.splits.get(split):
                present = ", ".join(final.splits) or "none"
                raise ConfigError(
                    f"--split {split}: not in {final.name}, the final evaluation of {name}, which "
                    f"has: {present}; choose another, or evaluate the run on it"
                )


def _variant(
    label: str, runs: Sequence[Run], splits: Sequence[str], keys: Sequence[str]
) -> Variant:
    values = flat_values(runs[0].config)
    objective = runs[0].config.learner.chosen_objective
    clip = str(objective.clip)
    if objective.clip != "none":
        clip += f" -{objective.epsilon:g}, +{objective.epsilon_high:g}"
    split_scores, reading = {}, {}
    for split in splits:
        games = _final_games(runs, split)
        if games:
            split_scores[split] = scores(games)
            reading[split] = _reading(runs, split)
    measured = [metric for metric in MECHANISM if all(_values(run, metric.value) for run in runs)]
    return Variant(
        label=label,
        differs={key: values.get(key) for key in keys},
        clip=clip,
        runs=[_summary(run) for run in runs],
        training=_training_curve(runs, _training_success),
        held_out={split: _held_out(runs, split) for split in splits},
        recent_success=over_seeds({run.config.seed: _recent(run) for run in runs}),
        scores=split_scores,
        reading=reading,
        mechanism={metric.name: _phases(runs, metric.value) for metric in measured},
        mechanism_curves={metric.name: _training_curve(runs, metric.value) for metric in measured},
        times=mean_times([run.metrics for run in runs]),
    )


def _final_games(runs: Sequence[Run], split: str) -> dict[int, Games]:
    """The games of the final evaluations on a split, by seed; seeds without any are absent."""
    by_seed: dict[int, Games] = {}
    for run in runs:
        games = run.final.splits.get(split) if run.final is not None else None
        if games:
            by_seed[run.config.seed] = games
    return by_seed


def _reading(runs: Sequence[Run], split: str) -> dict[str, Spread]:
    """The shares of `ReadingScore` over the seeds that have them."""
    by_share: dict[str, dict[int, float]] = {}
    for run in runs:
        score = run.final.reading.get(split) if run.final is not None else None
        if score is None:
            continue
        for name, share in asdict(score).items():
            if share is not None:
                by_share.setdefault(name, {})[run.config.seed] = share
    return {name: over_seeds(by_seed) for name, by_seed in by_share.items()}


def _summary(run: Run) -> RunSummary:
    tokens = sum(line["time/tokens_per_second"] * line["time/seconds"] for line in run.metrics)
    return RunSummary(
        name=run.name,
        seed=run.config.seed,
        steps=run.steps,
        rollout_steps=run.config.train.rollout_steps,
        recent_success=_recent(run),
        evaluation=run.final.name if run.final else None,
        evaluated_after=run.evaluated_after,
        seconds=sum(map(seconds_of_step, run.metrics)),
        tokens=round(tokens),
    )


def _training_success(line: MetricsLine) -> float:
    return line["rollout/success"]


def _recent(run: Run) -> float:
    return statistics.fmean(_training_success(line) for line in run.metrics[-RECENT:])


def _values(run: Run, value: Value) -> list[float]:
    """A metric of each rollout step that has one."""
    values = []
    for line in run.metrics:
        one = value(line)
        if one is not None:
            values.append(one)
    return values


def _training_curve(runs: Sequence[Run], value: Value) -> Curve:
    by_seed = {}
    for run in runs:
        by_seed[run.config.seed] = smoothed([value(line) for line in run.metrics])
    return curve(by_seed)


def _held_out(runs: Sequence[Run], split: str) -> Curve:
    """Success on a split in all evaluations, by the rollout step after which they were made."""
    by_seed: dict[int, dict[int, float]] = {}
    for run in runs:
        by_step = by_seed.setdefault(run.config.seed, {})
        for step, evaluation in sorted(run.evaluations.items()):
            games = evaluation.splits.get(split)
            if games:
                by_step[step] = mean_success(games)
    return curve(by_seed)


def _phases(runs: Sequence[Run], value: Value) -> Phases:
    whole, first, last, change, deviation = {}, {}, {}, {}, {}
    for run in runs:
        seed = run.config.seed
        values = _values(run, value)
        quarter = max(1, len(values) // 4)
        whole[seed] = statistics.fmean(values)
        first[seed] = statistics.fmean(values[:quarter])
        last[seed] = statistics.fmean(values[-quarter:])
        change[seed] = last[seed] - first[seed]
        deviation[seed] = from_step_to_step(values)
    return Phases(
        whole=over_seeds(whole),
        first=over_seeds(first),
        last=over_seeds(last),
        change=over_seeds(change),
        deviation=over_seeds(deviation),
    )
