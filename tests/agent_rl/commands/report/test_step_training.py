"""What training made of each turn: which went through the learner, with which advantage."""

from pathlib import Path
from typing import Any

from agent_rl.commands.report.step_training import Groups, training_of_step
from agent_rl.config import Config
from agent_rl.runs.episode_ids import EpisodeId
from rollouts import StopReason
from tests.builders.episodes import trajectory, turn

WON = trajectory(turn(reward=1.0), turn(new_prompt=True))
LOST = trajectory(turn(), turn(), stop_reason=StopReason.MAX_TURNS)
BROKEN = trajectory(turn(), turn(), stop_reason=StopReason.ENV_ERROR)


def groups(*of_groups: Any) -> Groups:
    """The groups with the names of a step 1."""
    named = []
    for number, members in enumerate(of_groups, start=1):
        ids = [EpisodeId(1, number, member) for member in range(1, len(members) + 1)]
        named.append(dict(zip(ids, members, strict=True)))
    return named


def shown(of_groups: Groups, **sections: Any) -> list[list[list[tuple[float | None, bool]]]]:
    """For each group, episode and turn the advantage, and whether it was trained."""
    found, note = training_of_step(of_groups, 1, Config(run_folder="", **sections), Path("none"))
    assert note == ""
    result = []
    for group in found:
        episodes = [[(t.advantage, t.trained) for t in turns] for turns in group.of_episodes]
        result.append(episodes)
    return result


def test_without_records_the_advantages_tell_what_was_trained() -> None:
    played = groups((WON, LOST, BROKEN), (WON, WON))
    learner = {"objective": "gmpo", "advantage": "group_mean"}
    mixed, even = shown(played, learner=learner)
    # Both turns of an episode have its advantage: 1 - 1/2 and 0 - 1/2.
    assert mixed == [[(0.5, True)] * 2, [(-0.5, True)] * 2, [(None, False)] * 2]
    assert even == [[(0.0, False)] * 2] * 2
    # KL moves an episode without an advantage, too.
    mixed, even = shown(played, learner={**learner, "beta": 0.1})
    assert even == [[(0.0, True)] * 2] * 2
    assert mixed[2] == [(None, False)] * 2


def test_a_dropped_group_was_not_trained() -> None:
    sections: Any = {"train": {"drop_groups": ["all_succeed"]}}
    config = Config(run_folder="", **sections)
    found, _ = training_of_step(groups((WON, LOST), (WON, WON)), 1, config, None)
    assert [group.dropped for group in found] == [False, True]
    (first, _) = found[1].of_episodes
    assert [(t.advantage, t.trained) for t in first] == [(None, False)] * 2
