import math
from dataclasses import replace
from typing import Any

import pytest

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.samples import (
    TrainingSample,
    episodes_of,
    groups_of,
    samples_from_group,
    turn_advantages,
    turn_scores,
)
from agent_rl.objective.presets import AdvantageName
from rollouts.types import StopReason, Trajectory
from tests.builders.episodes import group, trajectory, turn
from tests.builders.samples import BRIEF, OTHER, TWO_TURNS, sample, silent


def episode(rewards: list[float], stop_reason: StopReason) -> Trajectory:
    """A turn of two tokens for each reward; they all see the same room."""
    turns = (
        turn((1, 17, 4), (21, 2), logprobs=(-0.1, -0.2), observation="a room", reward=reward)
        for reward in rewards
    )
    return trajectory(*turns, stop_reason=stop_reason)


def test_turns_are_the_runs_of_the_mask() -> None:
    assert TWO_TURNS.turn_ids == (-1, -1, -1, 0, 0, -1, -1, 1, 1, 1)
    assert (TWO_TURNS.turns, TWO_TURNS.agent_tokens) == (2, 5)
    assert (silent().turns, silent().agent_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("advantages", "expected"),
    [((0.0, 0.0), False), ((0.0, -1e-9), True), ((1.0, -1.0), True), ((0.0, -0.0), False)],
)
def test_a_sample_has_a_gradient_if_some_turn_has_an_advantage(
    advantages: tuple[float, ...], expected: bool
) -> None:
    assert replace(TWO_TURNS, advantages=advantages).has_gradient is expected
    assert not silent().has_gradient


@pytest.mark.parametrize(
    "wrong",
    [
        {"action_mask": (True, True, True)},
        {"action_mask": (False, True)},
        {"behavior_logprobs": (0.0, 0.0, 0.0, 0.0)},
        {"token_ids": (1,), "action_mask": (False,), "behavior_logprobs": (0.0,), "advantages": ()},
        {"advantages": ()},
        {"advantages": (1.0, 1.0)},
        {"staleness": ()},
        {"staleness": ((0, 1),)},
        {"staleness": ((1, 0), (0, 0))},
        {"staleness": ((1, 0), (0, 2))},
        {"staleness": ((-1, 0),)},
        {
            "action_mask": (False, True, False, True),
            "token_ids": (1, 2, 3, 4),
            "behavior_logprobs": (0.0,) * 4,
        },
    ],
)
def test_a_sample_is_checked_when_it_is_made(wrong: dict[str, Any]) -> None:
    right = {
        "token_ids": (1, 2, 3),
        "action_mask": (False, True, True),
        "behavior_logprobs": (0.0, 0.0, 0.0),
        "advantages": (0.0,),
    }
    TrainingSample(**right)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        TrainingSample(**{**right, **wrong})


def test_a_group_gives_a_sample_for_each_episode_that_trains() -> None:
    played = group(
        episode([0.0, 1.0], StopReason.SUCCESS),
        episode([9.0], StopReason.ENV_ERROR),
        episode([0.0], StopReason.MAX_TURNS),
        episode([], StopReason.TIMEOUT),
    )
    samples = samples_from_group(played)
    assert [s.advantages for s in samples] == [
        pytest.approx([2**-0.5, 2**-0.5], abs=1e-5),
        pytest.approx([-(2**-0.5)], abs=1e-5),
    ]
    assert samples[1].token_ids == (1, 17, 4, 21, 2)
    assert samples[1].action_mask == (False, False, False, True, True)
    assert samples[1].behavior_logprobs == (0.0, 0.0, 0.0, -0.1, -0.2)


def test_each_part_of_an_episode_is_a_sample_of_that_episode() -> None:
    cut = trajectory(
        turn((1, 17), (21, 2), reward=0.0, policy_version=3),
        turn((4,), (22, 2), reward=0.0, policy_version=4),
        turn((1, 9, 4), (23, 2), reward=1.0, policy_version=5, new_prompt=True),
        turn((1, 8, 4), (24, 2), reward=1.0, policy_version=5, new_prompt=True),
    )
    whole = trajectory(turn((1, 17), (25, 2), policy_version=5), stop_reason=StopReason.MAX_TURNS)
    samples = samples_from_group(group(whole, cut), "group_mean", version=5, first_sample=10)
    assert [s.token_ids for s in samples] == [
        (1, 17, 25, 2),
        (1, 17, 21, 2, 4, 22, 2),
        (1, 9, 4, 23, 2),
        (1, 8, 4, 24, 2),
    ]
    # Returns 0 and 2 have the mean 1. The number is the place of the episode's first sample.
    assert [s.advantages for s in samples] == [(-1.0,), (1.0, 1.0), (1.0,), (1.0,)]
    assert [s.episode for s in samples] == [-1, 11, 11, 11]
    assert [s.staleness for s in samples] == [((0, 0),), ((2, 0), (1, 2)), ((0, 0),), ((0, 0),)]
    assert episodes_of(samples) == [[0], [1, 2, 3]]


def test_the_staleness_of_mixed_versions() -> None:
    """The weights changed within the second turn, and again between the third and the fourth."""
    played = group(
        trajectory(
            turn((1,), (3, 2), policy_version=5),
            turn((1,), (3, 4, 2), versions=((5, 0), (6, 1))),
            turn((1,), (3, 2), policy_version=6),
            turn((1,), (2,), policy_version=7),
        ),
        trajectory(turn((1,), (2,), policy_version=7)),
    )
    mixed, fresh = samples_from_group(played, version=7)
    assert mixed.staleness == ((2, 0), (1, 3), (0, 7))
    assert mixed.token_staleness == [2, 2, 2, 1, 1, 1, 1, 0]
    assert (fresh.staleness, fresh.token_staleness) == (((0, 0),), [0])
    # Without the learner's version all tokens are its own.
    assert [s.staleness for s in samples_from_group(played)] == [((0, 0),)] * 2
    assert samples_from_group(played)[0].token_staleness == [0] * 8
    with pytest.raises(AssertionError, match="weights to come"):
        samples_from_group(played, version=6)


def test_a_sample_without_agent_tokens_has_no_staleness() -> None:
    assert silent().token_staleness == []


def test_a_group_is_compared_by_the_named_advantage() -> None:
    played = group(
        episode([0.0, 0.0, 1.0], StopReason.SUCCESS), episode([0.0], StopReason.MAX_TURNS)
    )
    assert [s.advantages for s in samples_from_group(played, "leave_one_out")] == [
        (1.0, 1.0, 1.0),
        (-1.0,),
    ]
    # Rows 1, 1, 1, 0: mean 3/4, std 1/2.
    weighted = samples_from_group(played, "turn_weighted")
    assert [s.advantages[0] for s in weighted] == pytest.approx([0.5, -1.5], abs=1e-5)


def test_the_advantages_of_turns_are_joined_over_an_episode_s_parts() -> None:
    won = trajectory(turn(reward=1.0), turn(new_prompt=True))
    lost = trajectory(turn(), stop_reason=StopReason.MAX_TURNS)
    broken = trajectory(turn(), stop_reason=StopReason.ENV_ERROR)
    settings = LearnerSettings(objective="gmpo", advantage="group_mean")
    # Returns 1 and 0 have the mean 1/2; an episode that broke is not compared.
    found = turn_advantages(group(won, lost, broken), settings)
    assert found == [(0.5, 0.5), (-0.5,), None]


def test_turn_groups_add_the_turns_advantages_to_the_episodes() -> None:
    # From the room, which all turns see: 1/4, 1/2, 1 and 0. mean 7/16; squared deviations over 256
    # are 9 + 1 + 81 + 49 = 140, over 3; std = sqrt(140 / 768).
    played = group(
        episode([0.0, 0.0, 1.0], StopReason.SUCCESS), episode([0.0], StopReason.MAX_TURNS)
    )
    samples = samples_from_group(
        played, "turn_groups", turn_discount=0.5, turn_advantage_weight=2.0
    )
    std = math.sqrt(140 / 768)
    steps = [-3 / 16 / std, 1 / 16 / std, 9 / 16 / std, -7 / 16 / std]
    expected = [2**-0.5 + 2 * step for step in steps[:3]] + [-(2**-0.5) + 2 * steps[3]]
    assert [a for s in samples for a in s.advantages] == pytest.approx(expected, abs=1e-4)


def test_a_turn_that_the_environment_does_not_see_has_its_action_s_advantage() -> None:
    """The same groups with a thought that was cut off, and with a summary at the end."""
    won, lost = (
        episode([0.0, 0.0, 1.0], StopReason.SUCCESS),
        episode([0.0], StopReason.CONTEXT_FULL),
    )
    thought = replace(won.turns[0], kind="thought")
    thinking = replace(won, turns=(won.turns[0], thought, *won.turns[1:]))
    summed_up = replace(lost, turns=(*lost.turns, replace(lost.turns[0], kind="summary")))

    def advantages(*played: Trajectory, name: AdvantageName) -> list[tuple[float, ...]]:
        samples = samples_from_group(group(*played), name, turn_discount=0.5)
        return [sample.advantages for sample in samples]

    for name in ("group_std", "turn_weighted", "turn_groups"):
        (a, b, c), (d,) = advantages(won, lost, name=name)
        first, second = advantages(thinking, summed_up, name=name)
        assert first == (a, b, b, c)
        assert second[0] == d
    # The episode's own: what comes after the summary is unknown.
    assert second[1] == pytest.approx(-(2**-0.5), abs=1e-5)


def test_the_penalty_of_an_invalid_turn_is_of_that_turn_alone() -> None:
    won = trajectory(turn(), turn(admissible=False), turn(reward=1.0))
    lost = trajectory(turn(), stop_reason=StopReason.MAX_TURNS)
    # Rows 1, 1 - 1/2, 1, 0: mean 5/8; squared deviations over 64 are 9 + 1 + 9 + 25 = 44, over 3.
    std = math.sqrt(44 / 192)
    first, second = samples_from_group(group(won, lost), "turn_weighted", invalid_turn_penalty=0.5)
    assert first.advantages == pytest.approx([0.375 / std, -0.125 / std, 0.375 / std], abs=1e-4)
    assert second.advantages == pytest.approx([-0.625 / std], abs=1e-4)
    assert (won.episode_return, turn_scores(won, 0.5)) == (1.0, [1.0, 0.5, 1.0])
    # Lost alike, but for one turn. Rows 0, 0 and -1/2: mean -1/6, std 1/sqrt(12).
    alike = trajectory(turn(), turn(admissible=False), stop_reason=StopReason.MAX_TURNS)
    samples = samples_from_group(group(lost, alike), "turn_weighted", invalid_turn_penalty=0.5)
    got = [a * math.sqrt(1 / 12) for sample in samples for a in sample.advantages]
    assert got == pytest.approx([1 / 6, 1 / 6, -1 / 3], abs=1e-4)
    with pytest.raises(AssertionError):
        samples_from_group(group(won, lost), "group_std", invalid_turn_penalty=0.5)


def test_a_thought_shares_the_penalty_of_its_action_and_a_summary_has_none() -> None:
    thought, summary = turn(kind="thought"), turn(kind="summary")
    wrong = turn(admissible=False)
    episode = trajectory(thought, wrong, summary, wrong, turn(reward=2.0), summary)
    assert turn_scores(episode, 0.5) == [1.5, 1.5, 2.0, 1.5, 2.0, 2.0]
    other = trajectory(turn(), stop_reason=StopReason.MAX_TURNS)
    # A thought and a summary are no rows. The rows are 1.5, 1.5, 2 and 0, with the mean 1.25.
    sample, _ = samples_from_group(group(episode, other), "turn_weighted", invalid_turn_penalty=0.5)
    # Squared deviations over 16 are 1 + 1 + 9 + 25 = 36, over 3.
    std = math.sqrt(36 / 48)
    expected = [0.25, 0.25, 0.75, 0.25, 0.75, 0.75]
    assert sample.advantages == pytest.approx([x / std for x in expected], abs=1e-4)


def test_episodes_that_begin_with_the_same_prompt_are_a_group() -> None:
    # The prompt of TWO_TURNS, OTHER and BRIEF is 1 17 4; an episode's is that of its first sample.
    samples = [
        TWO_TURNS,
        sample(1, first=3),
        replace(sample(3, first=8), episode=4),
        OTHER,
        replace(BRIEF, episode=4),
        silent(),
        sample(2, first=3),
        replace(BRIEF, episode=2),
        replace(silent(), episode=2),
        silent(),
    ]
    assert groups_of(samples) == [[[0], [3], [7, 8]], [[1], [6]], [[2, 4]], [[5], [9]]]
    assert groups_of([]) == []


def test_the_parts_of_an_episode_share_its_number() -> None:
    numbers = [-1, 7, -1, 7, 0]
    samples = [sample(1, episode=number) for number in numbers]
    assert episodes_of(samples) == [[0], [1, 3], [2], [4]]
