import pytest

from agent_rl.config import ConfigError
from agent_rl.runs.episode_ids import EpisodeId, ids_by_task, ids_of_groups
from envs import Task
from tests.builders.episodes import group, trajectory, turn

OTHER = Task(env_id="e", split="s", family="f", id="other")


def test_an_id_is_read_as_it_is_written() -> None:
    assert EpisodeId.parse("12/3/5") == EpisodeId(12, 3, 5)
    assert str(EpisodeId(12, 3, 5)) == "12/3/5"
    assert EpisodeId(2, 9, 9) < EpisodeId(10, 1, 1)


@pytest.mark.parametrize("text", ["12/3", "12/0/5", "a/b/c", "", "12-3-5"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write STEP/GROUP/MEMBER"):
        EpisodeId.parse(text)


def test_two_groups_of_one_task_are_told_apart_where_the_groups_are_known() -> None:
    one = trajectory(turn())
    groups = [group(one, one), group(one, one)]
    named = ["4/1/1", "4/1/2", "4/2/1", "4/2/2"]
    assert [str(name) for name in ids_of_groups(4, groups)] == named
    # By the tasks alone they are one group of four, and another task begins a new one.
    by_task = ids_by_task(4, [one, one, one, one, trajectory(turn(), task=OTHER)])
    assert [str(name) for name in by_task] == ["4/1/1", "4/1/2", "4/1/3", "4/1/4", "4/2/1"]
