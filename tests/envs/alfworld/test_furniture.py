"""Rooms are read from problems, and training rooms from the first game of each scene."""

from pathlib import Path

import pytest

from envs.alfworld.data import index_games
from envs.alfworld.engines.game_file import read_problem
from envs.alfworld.furniture import Kind, room_of, room_type, training_rooms
from tests.builders.kitchen import ID, kitchen, write_kitchen

COUNTER = Kind("countertop_bar_{}", "countertoptype")
BASIN = Kind("sink_bar_{}_bar_sinkbasin", "sinkbasintype")
FRIDGE = Kind("fridge_bar_{}", "fridgetype")


def test_a_room_has_the_pieces_and_things_of_its_problem() -> None:
    room = room_of(read_problem(kitchen()), "1")
    pieces = {piece.id: piece for piece in room.pieces}
    assert list(pieces) == [
        "countertop_bar_1",
        "diningtable_bar_1",
        "diningtable_bar_2",
        "fridge_bar_1",
        "microwave_bar_1",
        "sink_bar_1_bar_sinkbasin",
    ]
    counter, basin, fridge = (
        pieces[each] for each in ("countertop_bar_1", "sink_bar_1_bar_sinkbasin", "fridge_bar_1")
    )
    assert (counter.kind, basin.kind, fridge.kind) == (COUNTER, BASIN, FRIDGE)
    assert (counter.openable, fridge.openable) == (False, True)
    # Both are at loc_bar_1, and the basin is listed later.
    assert counter.location == basin.location == "loc_bar_1_of_1"
    assert (counter.beside, basin.beside, fridge.beside) == ("", "countertop_bar_{}", "")
    apple = [kind for thing, _, kind in room.things if thing == "apple_bar_1"]
    assert apple == [COUNTER, BASIN]
    assert ("mug_bar_1", "mugtype", FRIDGE) in room.things
    assert "window_bar_1" not in {thing for thing, _, _ in room.things}


def test_rooms_are_of_a_type_by_their_number() -> None:
    scenes = ("1", "30", "201", "312", "430", "attic", "")
    assert [room_type(scene) for scene in scenes] == [0, 0, 2, 3, 4, -1, -1]


def test_training_rooms_are_those_of_one_type_that_are_not_held_out(data: str) -> None:
    folder = Path(data) / "json_2.1.1"
    scenes = {game.scene for game in index_games(folder, "train")}
    for kind in {room_type(scene) for scene in scenes}:
        alike = {scene for scene in scenes if room_type(scene) == kind}
        rooms = training_rooms(folder, frozenset(), kind)
        assert rooms.keys() == alike
        for scene, room in rooms.items():
            assert all(piece.location.endswith(f"_of_{scene}") for piece in room.pieces)
        one = min(alike)
        assert training_rooms(folder, frozenset([one]), kind).keys() == alike - {one}


def test_a_game_without_rules_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    write_kitchen(tmp_path, more_facts="(full Fridge_bar_1)")
    with pytest.raises(ValueError, match=f"{ID}.*the native engine has no rules for this game"):
        training_rooms(tmp_path, frozenset(), 0)
