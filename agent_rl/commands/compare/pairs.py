"""Paired tests of variants on the same games. Pure values.

For most of them games are what is drawn, and the trained policies are taken as they are. So a small
p says that these policies differ on games like these, not that another seed would show the same:
for that there is `OverSeeds`.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent_rl.commands.compare.evaluations import Game
from agent_rl.config import ConfigError
from agent_rl.evaluation.statistics import (
    holm,
    mcnemar,
    paired_bootstrap,
    paired_permutation,
    welch,
)

Games = Mapping[str, Game]
"""The games of an evaluation by id."""


@dataclass(frozen=True, kw_only=True)
class SeedTest:
    """McNemar's exact test of two runs of one seed. A game is won where more than half of its
    repeats are.

    `difference`: of the mean success over games (and repeats); `only_a`, `only_b`: games won by one
    run alone.
    """

    seed: int
    difference: float
    only_a: int
    only_b: int
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """Welch's t test of the mean successes of two variants' seeds: seeds are what is drawn, the
    games are fixed.
    """

    interval: tuple[float, float]
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Variant `a` less variant `b`, on the same games, a game's success being its mean over seeds
    and repeats.

    `interval`: paired bootstrap by game. `p`: permutation of each game's sign. `p_holm`: corrected
    for all pairs. `over_seeds`: None with fewer than two seeds on a side, or no spread on either.
    """

    a: str
    b: str
    games: int
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    over_seeds: OverSeeds | None
    seeds: Sequence[SeedTest]


def paired_tests(
    split: str, variants: Mapping[str, Mapping[int, Games]], against: str | None = None
) -> list[PairedTest]:
    """Every two variants, or each less `against`. `variants`: by label and seed; those without a
    seed are left out.

    Holm's correction is made for each kind of test by itself: over the pairs, or over all tests of
    single seeds.

    Raises:
        ConfigError: evaluations are not of the same games.
    """
    having = {label: seeds for label, seeds in variants.items() if seeds}
    _same_games(split, having)
    pairs = list(itertools.combinations(having, 2))
    if against is not None:
        pairs = [(label, against) for label in having if label != against and against in having]
    tests = [_test(a, having[a], b, having[b]) for a, b in pairs]
    overall = holm([test.p for test in tests])
    drawn = iter(holm([test.over_seeds.p for test in tests if test.over_seeds]))
    single = iter(holm([one.p for test in tests for one in test.seeds]))
    return [
        replace(
            test,
            p_holm=p,
            over_seeds=test.over_seeds and replace(test.over_seeds, p_holm=next(drawn)),
            seeds=[replace(one, p_holm=next(single)) for one in test.seeds],
        )
        for test, p in zip(tests, overall, strict=True)
    ]


def _test(a: str, of_a: Mapping[int, Games], b: str, of_b: Mapping[int, Games]) -> PairedTest:
    ids = sorted(next(iter(of_a.values())))
    left = [[games[name].mean for games in of_a.values()] for name in ids]
    right = [[games[name].mean for games in of_b.values()] for name in ids]
    p = paired_permutation(left, right)
    return PairedTest(
        a=a,
        b=b,
        games=len(ids),
        difference=statistics.fmean(map(statistics.fmean, left))
        - statistics.fmean(map(statistics.fmean, right)),
        interval=paired_bootstrap(left, right),
        p=p,
        p_holm=p,
        over_seeds=_over_seeds(of_a, of_b),
        seeds=[_seed_test(seed, of_a[seed], of_b[seed]) for seed in sorted(set(of_a) & set(of_b))],
    )


def _over_seeds(of_a: Mapping[int, Games], of_b: Mapping[int, Games]) -> OverSeeds | None:
    left, right = (
        [statistics.fmean(g.mean for g in games.values()) for games in of.values()]
        for of in (of_a, of_b)
    )
    found = welch(left, right)
    if found is None:
        return None
    interval, p = found
    return OverSeeds(interval=(interval.low, interval.high), p=p, p_holm=p)


def _seed_test(seed: int, of_a: Games, of_b: Games) -> SeedTest:
    won = [(of_a[name].mean > 0.5, of_b[name].mean > 0.5) for name in of_a]
    only_a, only_b = won.count((True, False)), won.count((False, True))
    p = mcnemar(only_a, only_b)
    difference = statistics.fmean(of_a[name].mean - of_b[name].mean for name in of_a)
    return SeedTest(seed=seed, difference=difference, only_a=only_a, only_b=only_b, p=p, p_holm=p)


def _same_games(split: str, variants: Mapping[str, Mapping[int, Games]]) -> None:
    """Raise where any evaluation is of other games than the first."""
    each = [
        (label, seed, set(games))
        for label, seeds in variants.items()
        for seed, games in seeds.items()
    ]
    for label, seed, games in each[1:]:
        first_label, first_seed, first = each[0]
        if differ := sorted(first ^ games):
            raise ConfigError(
                f"split {split}: {first_label} (seed {first_seed}) and {label} (seed {seed}) were not evaluated on the "
                f"same games: {len(first - games)} of the first's {len(first)} and {len(games - first)} of the other's "
                f"{len(games)} are in one only, {differ[0]!r} for example. A paired test needs the same: evaluate them "
                "again with the same env.options, evaluation.tasks and evaluation.only, or compare without the paired "
                "tests (--unpaired)"
            )
