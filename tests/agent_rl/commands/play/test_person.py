"""A person plays: by number and name, with steps back, at a terminal."""

from pathlib import Path

import pytest

from agent_rl.commands.play.person import PersonEpisode
from agent_rl.runs.trajectories import load_trajectories
from rollouts import EpisodeSettings, StopReason
from tests.builders.play import NUMBER, OneWay, Play, Stairs, at_terminal, saved


def test_a_person_plays_by_number_and_name_and_takes_steps_back(play: Play, tmp_path: Path) -> None:
    typed = "\n5\n99\nundo\nlook\nundo\nundo\nguess 2\nhistory\n8\n"
    shown = play(NUMBER, "--task", "number-7", typed=typed)
    assert "task number-7   (train, odd)" in shown
    assert "  1 guess 0" in shown
    assert "there are 11 commands" in shown
    assert shown.count("Nothing happens.") == 1
    assert "there is nothing to take back" in shown
    assert "    > guess 7\n" in shown
    assert "= success, 2 turns, return +1.00" in shown
    episode = saved(tmp_path)
    assert [turn.action.command for turn in episode.turns] == ["guess 2", "guess 7"]
    assert [turn.observation for turn in episode.turns] == ["Guess my number.", "Higher."]
    assert (episode.success, episode.turns[1].reward) == (True, 1.0)


@pytest.mark.parametrize("typed", ["guess 1\nquit\n", "guess 1"])
def test_who_leaves_keeps_what_was_played(play: Play, tmp_path: Path, typed: str) -> None:
    options = ("--task", "number-7", "--save", "kept.jsonl")
    assert "= quit, 1 turns" in play(NUMBER, *options, typed=typed)
    (episode,) = load_trajectories(tmp_path / "kept.jsonl")
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.QUIT, 1)


@pytest.mark.process
def test_tab_completes_at_a_terminal(tmp_path: Path) -> None:
    at_terminal(tmp_path, NUMBER, "--task", "number-7", typed=b"thi\t\nguess 7\n")
    assert [turn.action.command for turn in saved(tmp_path).turns] == ["think", "guess 7"]


@pytest.mark.process
def test_ctrl_c_at_the_prompt_leaves_and_keeps_what_was_played(tmp_path: Path) -> None:
    shown = at_terminal(
        tmp_path, NUMBER, "--task", "number-7", typed=b"guess 1\n", interrupt_at=b"2 (return"
    )
    assert "= quit, 1 turns" in shown
    assert [turn.action.command for turn in saved(tmp_path).turns] == ["guess 1"]


@pytest.mark.parametrize("env", [Stairs(), OneWay()])
def test_undo_is_the_same_with_and_without_copies(env: Stairs) -> None:
    under_way = PersonEpisode(env, env.tasks("train")[0], EpisodeSettings())
    under_way.start()
    assert not under_way.undo()
    for word in ("up", "stay", "up", "up"):
        under_way.do(word)
    assert under_way.undo()
    assert under_way.undo()
    under_way.do("wait")
    under_way.do("up")
    episode = under_way.record.end(StopReason.MAX_TURNS)
    assert [turn.action.text for turn in episode.turns] == ["up", "stay", "wait", "up"]
    assert [turn.observation for turn in episode.turns] == ["0", "1", "1", "1"]
    assert (episode.final_observation, episode.episode_return) == ("2", 2.0)
    assert (
        bytes(i for i in episode.token_ids if i < 256).decode()
        == "0\n> up\n1\n> stay\n1\n> wait\n1\n> up"
    )
