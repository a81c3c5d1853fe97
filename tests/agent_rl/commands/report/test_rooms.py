"""Which environments have a drawing of the room."""

from agent_rl.commands.report.rooms import room_of
from tests.builders.episodes import trajectory, turn
from tests.builders.reports import real_episodes


def test_an_episode_of_alfworld_has_a_room() -> None:
    episode = real_episodes()[0]
    room = room_of(episode)
    assert room is not None
    assert len(room.turns) == len(episode.turns)
    assert {each.place for each in room.turns} - {""} <= set(room.places)


def test_an_episode_of_another_environment_has_none() -> None:
    assert room_of(trajectory(turn())) is None
