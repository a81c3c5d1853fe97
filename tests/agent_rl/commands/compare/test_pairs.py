"""Paired tests, by hand."""

import pytest

from agent_rl.commands.compare.pairs import Games, paired_tests
from agent_rl.config import ConfigError
from agent_rl.evaluation.statistics import paired_bootstrap
from tests.builders.comparisons import games as by_id


def games(won: str, *, prefix: str = "g") -> Games:
    """A game per word; a word has a 1 or a 0 for each repeat."""
    return by_id({f"{prefix}{number}": word for number, word in enumerate(won.split())})


def test_two_runs_by_hand() -> None:
    # The first alone wins games 0 to 4, the second alone game 5; both win 6, none 7.
    (test,) = paired_tests(
        "s", {"a": {0: games("1 1 1 1 1 0 1 0")}, "b": {0: games("0 0 0 0 0 1 1 0")}}
    )
    (seed,) = test.seeds
    assert (seed.seed, seed.only_a, seed.only_b) == (0, 5, 1)
    assert seed.p == pytest.approx(2 * (1 + 6) / 2**6)
    assert seed.difference == pytest.approx(4 / 8)
    assert (test.a, test.b, test.games) == ("a", "b", 8)
    assert test.difference == pytest.approx(4 / 8)
    assert test.p == pytest.approx(seed.p)  # with one repeat and one seed both tests are the same
    assert (test.p_holm, seed.p_holm) == (test.p, seed.p)
    assert test.interval == paired_bootstrap(
        [[1]] * 5 + [[0], [1], [0]], [[0]] * 5 + [[1], [1], [0]]
    )


def test_repeats_count_by_their_mean_and_by_their_majority() -> None:
    a, b = games("110 100 111 10"), games("100 100 000 00")
    (test,) = paired_tests("s", {"a": {0: a}, "b": {0: b}})
    (seed,) = test.seeds
    # Two of three are a win, one of three is none, and one of two is none.
    assert (seed.only_a, seed.only_b) == (2, 0)
    assert test.difference == pytest.approx((1 / 3 + 0 + 1 + 1 / 2) / 4)
    assert seed.difference == pytest.approx(test.difference)


def test_seeds_are_averaged_within_a_game() -> None:
    a = {0: games("1 1 0"), 1: games("1 0 0")}
    b = {0: games("0 1 0"), 1: games("0 0 0")}
    (test,) = paired_tests("s", {"a": a, "b": b})
    assert test.games == 3
    assert test.difference == pytest.approx((1.0 + 0.0 + 0.0) / 3)
    assert [one.difference for one in test.seeds] == pytest.approx([1 / 3, 1 / 3])


def test_the_order_of_games_does_not_matter() -> None:
    a = games("1 1 1 0 0")
    b = dict(reversed(list(games("1 0 1 0 0").items())))
    (test,) = paired_tests("s", {"a": {0: a}, "b": {0: b}})
    (seed,) = test.seeds
    assert (seed.only_a, seed.only_b) == (1, 0)
    assert test.difference == pytest.approx(1 / 5)
    assert test.interval == pytest.approx((0.0, 0.6))


def test_only_common_seeds_are_tested_one_by_one() -> None:
    (test,) = paired_tests(
        "s", {"a": {0: games("1 1"), 1: games("1 1")}, "b": {1: games("0 0"), 2: games("0 1")}}
    )
    assert [one.seed for one in test.seeds] == [1]
    assert test.difference == pytest.approx(1.0 - 0.25)


def test_over_seeds_by_hand() -> None:
    # Mean successes 3/4 and 1/4 against 1/4 and 1/4: a difference of 1/4; only the first side
    # spreads, by 1/2, so its error is 1/2 / 2 with one degree of freedom (the t of Cauchy, whose p
    # at t = 1 is 1/2 and whose 97.5 % is 12.706).
    a = {0: games("1 1 1 0"), 1: games("1 0 0 0")}
    b = {2: games("1 0 0 0"), 3: games("0 1 0 0")}
    (test,) = paired_tests("s", {"a": a, "b": b})
    assert test.over_seeds is not None
    assert test.over_seeds.p == pytest.approx(1 / 2)
    assert test.over_seeds.p_holm == test.over_seeds.p
    assert test.over_seeds.interval == pytest.approx(
        (1 / 4 - 12.706 / 4, 1 / 4 + 12.706 / 4), abs=1e-3
    )


def test_one_seed_says_nothing_of_seeds_and_is_not_counted() -> None:
    two = {0: games("1 1 1 0"), 1: games("1 0 0 0")}
    tests = paired_tests(
        "s", {"a": two, "b": {0: games("0 0 0 0")}, "c": {0: games("0 0 0 0"), 1: games("1 0 0 0")}}
    )
    assert [test.over_seeds is None for test in tests] == [True, False, True]
    assert tests[1].over_seeds is not None
    assert tests[1].over_seeds.p_holm == tests[1].over_seeds.p


def test_every_two_variants_with_holm() -> None:
    variants = {
        "a": {0: games("1 1 1 1 1 1 1 0")},
        "b": {0: games("0 0 0 0 0 0 0 0")},
        "c": {0: games("1 1 1 1 1 0 0 0")},
    }
    tests = paired_tests("s", variants)
    assert [(test.a, test.b) for test in tests] == [("a", "b"), ("a", "c"), ("b", "c")]
    # 7 of 7, 2 of 2 and 5 of 5 games: p = 2 / 2^n.
    assert [test.p for test in tests] == pytest.approx([1 / 64, 1 / 2, 1 / 16])
    assert [test.p_holm for test in tests] == pytest.approx([3 / 64, 1 / 2, 2 / 16])
    assert [one.p_holm for test in tests for one in test.seeds] == pytest.approx(
        [3 / 64, 1 / 2, 2 / 16]
    )


def test_holm_counts_each_seed() -> None:
    won, lost = games("1 1 1 1 1 1 1 1"), games("0 0 0 0 0 0 0 0")
    (test,) = paired_tests("s", {"a": {0: won, 1: won}, "b": {0: lost, 1: lost}})
    assert [one.p for one in test.seeds] == pytest.approx([1 / 128] * 2)
    assert [one.p_holm for one in test.seeds] == pytest.approx([2 / 128] * 2)
    assert test.p_holm == test.p


def test_against_one_variant() -> None:
    variants = {"a": {0: games("1 0")}, "b": {0: games("0 0")}, "c": {0: games("1 1")}}
    assert [(test.a, test.b) for test in paired_tests("s", variants, "b")] == [
        ("a", "b"),
        ("c", "b"),
    ]


def test_variants_without_an_evaluation_are_not_tested() -> None:
    assert paired_tests("s", {"a": {0: games("1 0")}, "b": {}}) == []


def test_other_games_are_refused() -> None:
    others = {**games("1 0"), **games("1", prefix="h")}
    with pytest.raises(ConfigError) as caught:
        paired_tests("valid_seen", {"a": {0: games("1 0 1")}, "b": {3: others}})
    message = str(caught.value)
    assert (
        "split valid_seen: a (seed 0) and b (seed 3) were not evaluated on the same games"
        in message
    )
    assert "1 of the first's 3 and 1 of the other's 3 are in one only, 'g2' for example" in message
    assert "--unpaired" in message


def test_other_games_within_a_variant_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a \(seed 0\) and a \(seed 1\)"):
        paired_tests("s", {"a": {0: games("1 0"), 1: games("1 0 1")}, "b": {0: games("1 0")}})
