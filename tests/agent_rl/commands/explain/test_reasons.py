from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.explain.explanation import Explanation, explanation_of
from agent_rl.commands.explain.reasons import other_terms, turn_reasons, why_not_trained
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.episode_writer import EpisodeWriter
from agent_rl.runs.layout import RunLayout
from rollouts import FinishReason, StopReason, Trajectory, TrajectoryGroup
from tests.builders.episodes import group, trajectory, turn
from tests.builders.runs import write_run

LOST = trajectory(turn(), stop_reason=StopReason.MAX_TURNS)
WON = trajectory(turn(reward=1.0))
FAILED = trajectory(turn(), stop_reason=StopReason.ENV_ERROR, error="no")


def told(folder: Path, *groups: TrajectoryGroup, name: str = "1/1/1", **config: Any) -> Explanation:
    """What is known of an episode of a step with these groups."""
    run = RunLayout(write_run(folder, **config))
    run.train.trajectories.mkdir()
    writer = EpisodeWriter(run.train)
    writer.write(1, groups, None)
    writer.close()
    return explanation_of(folder, EpisodeId.parse(name))


@pytest.mark.parametrize(
    ("members", "name", "reason"),
    [
        ((WON, LOST), "1/1/1", ""),
        ((FAILED, WON, LOST), "1/1/1", "it ended with env_error, which says nothing about"),
        ((WON, WON, LOST), "1/2/1", "its group was dropped: all its episodes succeed"),
        ((LOST, LOST), "1/1/1", "its advantage is 0: all 2 episodes of its group have the same"),
        ((LOST, FAILED), "1/1/1", "its advantage is 0: no other episode of its group"),
    ],
)
def test_an_episode_that_does_not_train_says_why(
    members: tuple[Trajectory, ...], name: str, reason: str, tmp_path: Path
) -> None:
    groups = [group(*members), group(WON, WON)]
    train = {"drop_groups": ["all_succeed"], "max_extra_groups": 1}
    found = why_not_trained(told(tmp_path / "r", *groups, name=name, train=train))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_the_mean_of_the_group_has_no_advantage(tmp_path: Path) -> None:
    half = trajectory(turn(reward=0.5), stop_reason=StopReason.MAX_TURNS)
    found = told(tmp_path / "r", group(half, WON, LOST), learner={"beta": 0.1})
    why = "its advantage is 0: its score is that of what it is compared with"
    assert why_not_trained(found) == why
    assert other_terms(found) == ["learner.beta"]
    assert other_terms(told(tmp_path / "s", group(half, WON, LOST))) == []
    # A divergence is of episodes that go through the learner, and a failed one does not.
    failed = told(tmp_path / "t", group(FAILED, WON, LOST), learner={"beta": 0.1})
    assert other_terms(failed) == []


def test_a_turn_says_what_is_masked_and_what_an_invalid_action_cost(tmp_path: Path) -> None:
    played = trajectory(
        turn((1, 2), kind="thought", command=None, finish_reason=FinishReason.LENGTH),
        turn((3,), admissible=False, finish_reason=FinishReason.LENGTH),
        turn((4, 5), reward=1.0),
        turn((6,), new_prompt=True),
    )
    found = told(
        tmp_path / "r",
        group(played, LOST),
        episode={"invalid_action_penalty": 0.1},
        learner={"objective": "grpo", "advantage": "turn_weighted", "invalid_turn_penalty": 0.5},
    )
    assert [list(turn_reasons(found, index)) for index in range(4)] == [
        [
            "2 tokens of prompt, masked: the policy did not write it",
            "a thought that was cut off (episode.max_thought_tokens), with its action's advantage",
        ],
        [
            "1 token of prompt, masked: the end of the thought, which was written for the "
            "policy (prompt.thought_end)",
            "the token limit cut it off, so it has no end token to train",
            "invalid: its reward is 0.1 less (episode.invalid_action_penalty)",
            "invalid: this turn's score is 0.5 less (learner.invalid_turn_penalty)",
        ],
        [
            "2 tokens of prompt, masked: the policy did not write it; it begins with the "
            "end that its answer lacked",
        ],
        [
            "a whole new prompt begins here (prompt.history), and with it a new part",
            "1 token of prompt, masked: the policy did not write it",
        ],
    ]


def test_a_refused_command_that_is_said_again_cost_more(tmp_path: Path) -> None:
    refused = turn(admissible=False)
    found = told(
        tmp_path / "r",
        group(trajectory(refused, refused, turn(reward=1.0)), LOST),
        episode={"invalid_action_penalty": 0.1, "repeated_action_penalty": 0.2},
    )
    again = "said again: its reward is 0.2 less (episode.repeated_action_penalty)"
    assert [again in list(turn_reasons(found, index)) for index in range(3)] == [False, True, False]


def test_an_action_that_showed_nothing_new_cost_more(tmp_path: Path) -> None:
    """The second and third observation are the same. A thought before an action costs nothing."""
    turns = [turn(observation="a")]
    for _ in range(2):
        turns += [turn(observation="b", kind="thought", command=None), turn(observation="b")]
    turns += [turn(observation="c", reward=1.0)]
    found = told(
        tmp_path / "r",
        group(trajectory(*turns), LOST),
        episode={"seen_observation_penalty": 0.2},
    )
    nothing = "nothing new: its reward is 0.2 less (episode.seen_observation_penalty)"
    told_of = [nothing in list(turn_reasons(found, index)) for index in range(6)]
    assert told_of == [False, False, True, False, False, False]
