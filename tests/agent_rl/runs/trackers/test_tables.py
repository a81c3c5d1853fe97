import pytest

from agent_rl.runs.trackers.tables import (
    episode_text,
    episodes_table,
    evaluation_metrics,
    evaluation_table,
)
from rollouts import StopReason
from tests.builders.episodes import trajectory, turn
from tests.builders.runs import report

REPORT = report({"seen": {"pick1": [True], "put1": [False]}, "unseen": {"pick2": [True]}})


def test_success_on_each_split_has_its_interval() -> None:
    metrics = evaluation_metrics(REPORT)
    assert list(metrics) == [
        "evaluation/seen/success",
        "evaluation/seen/success_low",
        "evaluation/seen/success_high",
        "evaluation/unseen/success",
        "evaluation/unseen/success_low",
        "evaluation/unseen/success_high",
    ]
    low, high = REPORT.splits["seen"].overall.interval
    assert list(metrics.values())[:3] == [0.5, low, high]


def test_the_table_has_a_row_for_each_family_of_each_split_and_for_all() -> None:
    table = evaluation_table(REPORT)
    assert [row[:4] for row in table.rows] == [
        ("seen", "pick", 1, 1.0),
        ("seen", "put", 1, 0.0),
        ("seen", "all", 2, 0.5),
        ("unseen", "pick", 1, 1.0),
        ("unseen", "all", 1, 1.0),
    ]
    assert {len(row) for row in table.rows} == {len(table.head)}


@pytest.mark.parametrize(("most", "chosen"), [(1, [0]), (2, [0, 2]), (9, [0, 1, 2, 3])])
def test_the_chosen_episodes_are_spread_over_the_groups(most: int, chosen: list[int]) -> None:
    episodes = [trajectory(turn(reward=float(number))) for number in range(4)]
    table = episodes_table(7, episodes, most)
    assert [(row[0], row[4]) for row in table.rows] == [(7, float(number)) for number in chosen]
    assert {len(row) for row in table.rows} == {len(table.head)}


def test_no_episodes_make_an_empty_table() -> None:
    assert episodes_table(1, [], 4).rows == []


def test_an_episode_is_text_without_control_characters() -> None:
    episode = trajectory(
        turn(observation="a [b]room[/b]\x1b[2J", command="go", reward=1.0),
        stop_reason=StopReason.MAX_TURNS,
        final_observation="the end",
    )
    lines = [line.strip() for line in episode_text(episode).splitlines()]
    assert lines == [
        r"a [b]room[/b]\x1b[2J",
        "1 > go   reward +1.00",
        "the end",
        "= max_turns, 1 turns, return +1.00",
    ]
