"""Scores by hand: of a repeat, a game, a family and the gap between two splits."""

import json
import random

import pytest

from agent_rl.evaluation.report import EvaluationReport, summarize
from agent_rl.evaluation.statistics import bootstrap_by_game, bootstrap_gap, wilson_interval
from envs import Task
from rollouts import FinishReason, StopReason, Trajectory
from tests.builders.episodes import trajectory, turn

WON, LOST, BROKEN = StopReason.SUCCESS, StopReason.MAX_TURNS, StopReason.ENV_ERROR


def episode(
    game: str,
    reason: StopReason,
    turns: int = 2,
    *,
    invalid: int = 0,
    split: str = "s",
    version: int = 0,
) -> Trajectory:
    """An episode of the family before the game's number (`pick1`). A turn has 1 token of prompt and
    2 of the agent.
    """
    task = Task(env_id="e", split=split, family=game.rstrip("0123456789"), id=game)
    played = (turn(policy_version=version, admissible=n >= invalid) for n in range(turns))
    return trajectory(*played, task=task, stop_reason=reason)


def test_one_repeat_by_hand() -> None:
    report = summarize(
        {
            "s": [
                [
                    episode("pick1", WON, 2),
                    episode("pick2", LOST, 4, invalid=2),
                    episode("heat1", StopReason.CONTEXT_FULL, 3),
                    episode("heat2", BROKEN, 1, invalid=1),
                ]
            ]
        },
        {"model": "m"},
    )
    part = report.splits["s"]
    score = part.overall
    assert (score.n, score.repeats, score.successes, score.success) == (3, 1, 1, 1 / 3)
    assert score.interval == wilson_interval(1, 3) == score.per_repeat[0].interval
    assert (score.mean_turns, score.turns_to_success) == (3.0, 2.0)
    assert score.invalid_action_rate == 2 / 9
    assert (score.tokens_per_episode, score.agent_tokens_per_episode) == (9.0, 6.0)
    assert (part.families["pick"].success, part.families["heat"].success) == (0.5, 0.0)
    assert (part.families["heat"].n, part.families["heat"].turns_to_success) == (1, None)
    assert (part.stop_reasons, part.failures) == (
        {"context_full": 1, "max_turns": 1, "success": 1},
        {"env_error": 1},
    )
    assert [game.id for game in part.games] == ["heat1", "pick1", "pick2"]
    assert (report.setting, report.gap, report.overall) == ({"model": "m"}, None, score)


def repeats() -> list[list[Trajectory]]:
    """Three repeats of three games; one episode says nothing, and one game never does."""
    return [
        [episode("pick1", WON, 2), episode("pick2", LOST, 9), episode("heat1", BROKEN)],
        [episode("pick1", LOST, 9), episode("pick2", BROKEN), episode("heat1", BROKEN)],
        [episode("pick1", WON, 4), episode("pick2", WON, 6), episode("heat1", BROKEN)],
    ]


def test_a_game_counts_by_the_mean_over_its_repeats() -> None:
    """pick1: 2 of 3, pick2: 1 of 2. The mean over games is 7/12; over episodes it would be 3/5."""
    part = summarize({"s": repeats()}, {}).splits["s"]
    score = part.overall
    assert (score.n, score.repeats, score.successes) == (2, 3, 3)
    assert score.success == pytest.approx(7 / 12)
    assert score.interval == bootstrap_by_game([[1, 0, 1], [0, 1]])
    assert [(one.n, one.successes, one.success) for one in score.per_repeat] == [
        (2, 1, 0.5),
        (1, 0, 0.0),
        (2, 2, 1.0),
    ]
    assert [one.interval for one in score.per_repeat] == [
        wilson_interval(1, 2),
        wilson_interval(0, 1),
        wilson_interval(2, 2),
    ]
    assert (score.mean_turns, score.turns_to_success) == (6.0, 4.0)
    assert [(game.id, game.success, game.turns) for game in part.games] == [
        ("pick1", (True, False, True), (2, 9, 4)),
        ("pick2", (False, True), (9, 6)),
    ]
    assert part.families["pick"] == score
    assert (part.families["heat"].n, part.families["heat"].interval) == (0, (0.0, 1.0))
    assert part.failures == {"env_error": 4}


def test_the_order_in_which_episodes_end_changes_nothing() -> None:
    games = [f"{family}{number}" for family in ("pick", "heat") for number in range(6)]
    played = [
        [
            episode(game, WON if number % 3 else LOST, 1 + number % 5, invalid=number % 2)
            for number, game in enumerate(games)
        ]
        for _ in range(2)
    ]
    shuffled = [
        random.Random(seed).sample(of_repeat, len(of_repeat))
        for seed, of_repeat in enumerate(played)
    ]
    assert [t.task.id for t in shuffled[0]] != games
    assert json.dumps(summarize({"s": shuffled}, {}).record()) == json.dumps(
        summarize({"s": played}, {}).record()
    )


def test_players_have_no_tokens() -> None:
    score = summarize({"s": [[episode("pick1", WON, version=-1)]]}, {}).overall
    assert (score.tokens_per_episode, score.agent_tokens_per_episode) == (None, None)


def test_nothing_could_be_scored() -> None:
    score = summarize({"s": [[episode("pick1", BROKEN)], [episode("pick1", BROKEN)]]}, {}).overall
    assert (score.n, score.success, score.interval, score.turns_to_success) == (
        0,
        0.0,
        (0.0, 1.0),
        None,
    )
    assert (score.mean_turns, score.invalid_action_rate) == (0.0, 0.0)


def two_splits(*names: str) -> EvaluationReport:
    """3 of 4 on the first, all pick; 1 of 4 on the second, of which two are heat."""
    first = [episode(f"pick{n}", WON if n < 3 else LOST, split=names[0]) for n in range(4)]
    second = [episode(game, LOST, split=names[1]) for game in ("pick1", "heat1", "heat2")]
    return summarize(
        {names[0]: [first], names[1]: [[*second, episode("pick2", WON, split=names[1])]]}, {}
    )


def test_the_gap_is_the_first_split_minus_the_second() -> None:
    report = two_splits("a", "b")
    gap = report.gap
    assert gap is not None
    assert report.overall.success == report.splits["a"].overall.success == 0.75
    assert (gap.splits, gap.overall.difference) == (("a", "b"), 0.5)
    one, other = [[1], [1], [1], [0]], [[0], [0], [0], [1]]
    assert gap.overall.interval == bootstrap_gap(one, other)
    assert set(gap.families) == {"pick"}
    assert gap.families["pick"].difference == 0.25
    assert gap.families["pick"].interval == bootstrap_gap(one, [[0], [1]])


def test_the_gap_is_seen_minus_unseen_in_any_order() -> None:
    gap = two_splits("valid_unseen", "valid_seen").gap
    assert gap is not None
    assert (gap.splits, gap.overall.difference) == (("valid_seen", "valid_unseen"), -0.5)
    gap = two_splits("train", "valid_seen").gap
    assert gap is not None
    assert gap.splits == ("train", "valid_seen")


def test_turns_are_those_that_the_environment_saw() -> None:
    cut = FinishReason.LENGTH
    turns = (turn(finish_reason=cut, kind="thought"), turn(finish_reason=cut), turn(), turn())
    part = summarize({"s": [[trajectory(*turns)]]}, {}).splits["s"]
    assert (part.overall.mean_turns, part.overall.turns_to_success) == (3.0, 3.0)
    assert part.games[0].turns == (3,)
    assert part.overall.truncated_action_rate == 1 / 3
    # All ids count, also those of the thought.
    assert part.overall.agent_tokens_per_episode == 8.0
