"""Paired tests of variants on the same games. Pure values.

Most of these tests draw games and take the trained policies as fixed. A small p therefore says that
these policies differ on games like these. Whether other seeds would show the same is a question for
`OverSeeds`.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent_rl.config import ConfigError
from agent_rl.evaluation.scores import GameScore
from agent_rl.evaluation.statistics import (
    holm,
    mcnemar,
    paired_bootstrap,
    paired_permutation,
    welch,
)

Games = Mapping[str, GameScore]
"""The games of an evaluation by id."""


@dataclass(frozen=True, kw_only=True)
class SeedTest:
    """McNemar's exact test of two runs with the same seed.

    A run wins a game if it wins more than half of the game's repeats.
    """

    seed: int
    """The seed of both runs."""
    difference: float
    """Mean success of `a` minus that of `b`; a game counts by the mean of its repeats."""
    only_a: int
    """Games that only the run of `a` wins."""
    only_b: int
    """Games that only the run of `b` wins."""
    p: float
    """The test's p, uncorrected."""
    p_holm: float
    """The same after Holm's correction over all tests of single seeds on the split."""


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """Welch's t test of the mean successes of two variants' seeds: seeds are drawn, games fixed."""

    interval: tuple[float, float]
    """The 95 % interval of the difference of success, `a` minus `b`."""
    p: float
    """The test's p, uncorrected."""
    p_holm: float
    """The same after Holm's correction over the pairs that have this test."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Variant `a` minus variant `b` on the same games."""

    a: str
    """The first variant's label."""
    b: str
    """The second variant's label."""
    games: int
    """How many games both were evaluated on."""
    difference: float
    """Mean success of `a` minus that of `b`; a game counts by its mean over seeds and repeats."""
    interval: tuple[float, float]
    """The 95 % interval of the difference: a paired bootstrap by game."""
    p: float
    """The p of the permutation test that flips the sign of each game's difference."""
    p_holm: float
    """The same after Holm's correction over the pairs."""
    over_seeds: OverSeeds | None
    """None with fewer than two seeds on a side, or if neither side has a spread."""
    seeds: Sequence[SeedTest]
    """The tests of the seeds that both variants have."""


def paired_tests(
    split: str, variants: Mapping[str, Mapping[int, Games]], against: str | None = None
) -> list[PairedTest]:
    """Test all pairs of variants, or each variant minus `against`.

    Holm's correction is made separately for each kind of test: over the pairs, over the pairs'
    tests over seeds, and over all tests of single seeds.

    Args:
        split: for messages.
        variants: the games by label and seed. Variants without a seed are left out.
        against: a label; every other variant is tested against this one.

    Raises:
        ConfigError: evaluations are not of the same games.
    """
    evaluated = {label: seeds for label, seeds in variants.items() if seeds}
    _refuse_other_games(split, evaluated)
    if against is None:
        pairs = list(itertools.combinations(evaluated, 2))
    elif against in evaluated:
        pairs = [(label, against) for label in evaluated if label != against]
    else:
        pairs = []
    return _corrected([_test(a, evaluated[a], b, evaluated[b]) for a, b in pairs])


def _corrected(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests with Holm's correction, a correction for each kind of test."""
    of_pairs = holm([test.p for test in tests])
    of_seed_means = iter(holm([test.over_seeds.p for test in tests if test.over_seeds]))
    of_single_seeds = iter(holm([single.p for test in tests for single in test.seeds]))
    corrected = []
    for test, p_holm in zip(tests, of_pairs, strict=True):
        over_seeds = test.over_seeds
        if over_seeds is not None:
            over_seeds = replace(over_seeds, p_holm=next(of_seed_means))
        seeds = [replace(single, p_holm=next(of_single_seeds)) for single in test.seeds]
        corrected.append(replace(test, p_holm=p_holm, over_seeds=over_seeds, seeds=seeds))
    return corrected


def _test(a: str, of_a: Mapping[int, Games], b: str, of_b: Mapping[int, Games]) -> PairedTest:
    """The tests of one pair, uncorrected: `p_holm` is `p`."""
    # The same order of games on both sides, whatever the order in the files.
    ids = sorted(next(iter(of_a.values())))
    left, right = _outcomes(of_a, ids), _outcomes(of_b, ids)
    p = paired_permutation(left, right)
    common_seeds = sorted(set(of_a) & set(of_b))
    return PairedTest(
        a=a,
        b=b,
        games=len(ids),
        difference=_mean_of_games(left) - _mean_of_games(right),
        interval=paired_bootstrap(left, right),
        p=p,
        p_holm=p,
        over_seeds=_over_seeds(of_a, of_b),
        seeds=[_seed_test(seed, of_a[seed], of_b[seed]) for seed in common_seeds],
    )


def _outcomes(by_seed: Mapping[int, Games], ids: Sequence[str]) -> list[list[float]]:
    """For each game its success with each seed: [games, seeds]."""
    outcomes = []
    for name in ids:
        outcomes.append([games[name].mean for games in by_seed.values()])
    return outcomes


def _mean_of_games(outcomes: Sequence[Sequence[float]]) -> float:
    return statistics.fmean(map(statistics.fmean, outcomes))


def _over_seeds(of_a: Mapping[int, Games], of_b: Mapping[int, Games]) -> OverSeeds | None:
    left = [mean_success(games) for games in of_a.values()]
    right = [mean_success(games) for games in of_b.values()]
    test = welch(left, right)
    if test is None:
        return None
    interval, p = test
    return OverSeeds(interval=(interval.low, interval.high), p=p, p_holm=p)


def _seed_test(seed: int, of_a: Games, of_b: Games) -> SeedTest:
    only_a = only_b = 0
    for name in of_a:
        a_wins, b_wins = of_a[name].mean > 0.5, of_b[name].mean > 0.5
        only_a += a_wins and not b_wins
        only_b += b_wins and not a_wins
    p = mcnemar(only_a, only_b)
    difference = statistics.fmean(of_a[name].mean - of_b[name].mean for name in of_a)
    return SeedTest(seed=seed, difference=difference, only_a=only_a, only_b=only_b, p=p, p_holm=p)


def mean_success(games: Games) -> float:
    """The mean over games; a game counts by the mean of its repeats."""
    return statistics.fmean(game.mean for game in games.values())


def _refuse_other_games(split: str, variants: Mapping[str, Mapping[int, Games]]) -> None:
    """Raise if an evaluation has other games than the first one."""
    evaluations = []
    for label, seeds in variants.items():
        for seed, games in seeds.items():
            evaluations.append((f"{label} (seed {seed})", set(games)))
    for name, ids in evaluations[1:]:
        first_name, first = evaluations[0]
        differ = sorted(first ^ ids)
        if differ:
            raise ConfigError(
                f"split {split}: {first_name} and {name} were not evaluated on the same games: "
                f"{len(first - ids)} of the first's {len(first)} and {len(ids - first)} of "
                f"the other's {len(ids)} are in one only, {differ[0]!r} for example. A paired "
                "test needs the same games: evaluate them again with the same env.options, "
                "evaluation.tasks and evaluation.only, or compare without paired tests "
                "(--unpaired)"
            )
