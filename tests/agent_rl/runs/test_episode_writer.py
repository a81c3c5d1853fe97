"""The thread that writes episodes: in order, bounded, and never silent about an error.

A named pipe stands for a slow disk: a write to it begins, and ends when the test reads it. A link
to /dev/full is a full disk.
"""

import errno
import gzip
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_rl.runs.episode_writer import MOST_WAITING, EpisodeWriter
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trajectories import load_step_episodes, load_trajectories
from rollouts import TrajectoryGroup
from tests.builders.episodes import group, trajectory, turn


def groups_of(step: int) -> list[TrajectoryGroup]:
    """Two groups whose episodes tell the step."""
    episode = trajectory(turn(policy_version=step))
    return [group(episode, episode), group(episode)]


def names(layout: StageLayout) -> list[str]:
    return sorted(path.name for path in layout.trajectories.iterdir())


@pytest.fixture
def layout(tmp_path: Path) -> StageLayout:
    layout = StageLayout(tmp_path)
    layout.trajectories.mkdir()
    return layout


def test_a_write_returns_at_once_and_the_wait_ends_with_the_file(layout: StageLayout) -> None:
    slow = layout.step_episodes(1)
    os.mkfifo(slow)
    writer = EpisodeWriter(layout)
    writer.write(1, groups_of(1), None)
    writer.write(2, groups_of(2), None)
    writer.raise_failed()
    assert names(layout) == [slow.name], "the second write did not wait for the first"
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(writer.wait)
        time.sleep(0.1)
        assert not waiting.done()
        assert len(gzip.decompress(slow.read_bytes()).splitlines()) == 3
        waiting.result(timeout=60)
    versions = [
        e.turns[0].completion.policy_version for e in load_trajectories(layout.step_episodes(2))
    ]
    assert versions == [2, 2, 2]
    writer.close()


def test_only_so_many_steps_wait_in_memory(layout: StageLayout) -> None:
    slow = layout.step_episodes(1)
    os.mkfifo(slow)
    writer = EpisodeWriter(layout)
    for step in range(1, MOST_WAITING + 1):
        writer.write(step, groups_of(step), None)
    with ThreadPoolExecutor() as threads:
        last = MOST_WAITING + 1
        one_more = threads.submit(writer.write, last, groups_of(last), None)
        time.sleep(0.1)
        assert not one_more.done()
        slow.read_bytes()
        one_more.result(timeout=60)
    writer.close()
    assert layout.step_episodes(last).is_file()


def test_a_full_disk_is_told_once_and_the_other_steps_are_written(layout: StageLayout) -> None:
    full = layout.step_episodes(1)
    full.symlink_to("/dev/full")
    writer = EpisodeWriter(layout)
    writer.write(1, groups_of(1), None)
    writer.write(2, groups_of(2), None)
    with pytest.raises(OSError, match="No space left") as raised:
        writer.wait()
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(full))
    assert len(load_trajectories(layout.step_episodes(2))) == 3
    writer.write(1, groups_of(1), None)
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    writer.close()


@pytest.mark.parametrize(("keep", "kept"), [(None, [1, 2, 3, 4]), (2, [3, 4]), (1, [4]), (0, [])])
def test_the_newest_steps_are_kept(layout: StageLayout, keep: int | None, kept: list[int]) -> None:
    writer = EpisodeWriter(layout)
    for step in (1, 2, 3, 4):
        writer.write(step, groups_of(step), keep)
    writer.close()
    assert names(layout) == [layout.step_episodes(step).name for step in kept]


def test_a_resumed_run_replaces_the_files_of_repeated_steps(layout: StageLayout) -> None:
    """Also one of an earlier version, and without taking later ones for newer."""
    old = layout.trajectories / "step-000002.jsonl"
    for name in ("step-000001.jsonl", old.name, "step-000003.jsonl.gz", "expert.jsonl.gz"):
        (layout.trajectories / name).write_text("of before")
    (layout.trajectories / "step-000003.jsonl.gz.unfinished-7").touch()
    writer = EpisodeWriter(layout)
    writer.write(2, groups_of(2), 1)
    writer.close()
    assert names(layout) == ["expert.jsonl.gz", "step-000002.jsonl.gz", "step-000003.jsonl.gz"]
    assert len(load_trajectories(layout.step_episodes(2))) == 3


def test_each_line_names_step_group_and_member(layout: StageLayout) -> None:
    writer = EpisodeWriter(layout)
    writer.write(7, groups_of(7), None)
    writer.close()
    ids = [str(name) for name in load_step_episodes(layout.step_episodes(7), 7)]
    assert ids == ["7/1/1", "7/1/2", "7/2/1"]
