"""A game is parsed once for each state of its file, and is put together as its facts say."""

import json
from pathlib import Path

import pytest

from envs.alfworld.engines.game import build_game, load_game, parse_game, player_names
from envs.alfworld.engines.game_file import read_problem
from envs.alfworld.engines.native import NativeEngine
from tests.builders.kitchen import kitchen, write_kitchen


def test_a_game_is_parsed_once_and_shared(tmp_path: Path) -> None:
    path = write_kitchen(tmp_path)
    assert load_game(path) is load_game(path)
    assert parse_game(path) is not parse_game(path)
    assert next(iter(load_game(path).receptacles)) == "countertop 1"


def test_a_file_that_was_written_again_is_parsed_again(tmp_path: Path) -> None:
    path = write_kitchen(tmp_path)
    assert load_game(path).walkthrough == ()
    path.write_text(json.dumps({**kitchen(), "walkthrough": ["look"]}))
    assert load_game(path).walkthrough == ("look",)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text('{"pddl_domain": "half a ga')
    with pytest.raises(ValueError, match="not a usable ALFWorld game") as error:
        load_game(path)
    assert str(path) in str(error.value)


def test_the_refusal_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    path = write_kitchen(tmp_path, more_facts="(full Fridge_bar_1)")
    with pytest.raises(
        ValueError, match=r"unknown predicate; set env\.options\.engine: textworld"
    ) as error:
        NativeEngine().reset(path)
    assert str(path) in str(error.value)


def test_names_count_down_in_the_order_of_the_ids() -> None:
    assert player_names(["mug_bar_2", "mug_bar_1", "sink_bar_1_bar_sinkbasin", "sink_bar_1"]) == {
        "mug_bar_1": "mug 2",
        "mug_bar_2": "mug 1",
        "sink_bar_1": "sink 1",
        "sink_bar_1_bar_sinkbasin": "sinkbasin 1",
    }


def test_things_and_receptacles_are_as_the_facts_say() -> None:
    game = build_game(read_problem(kitchen()))
    apple, lamp, plate = (game.things[name] for name in ("apple 1", "desklamp 1", "plate 1"))
    assert (apple.type, apple.pickupable, apple.sliceable, apple.knife) == (
        "appletype",
        True,
        True,
        False,
    )
    assert apple.abilities == {"clean", "heat", "cool"}
    assert (lamp.toggleable, lamp.abilities, lamp.holds) == (True, frozenset(), None)
    assert plate.holds == ("egg 1",)
    assert game.things["knife 1"].knife
    assert {place.name: place.tool for place in game.receptacles.values() if place.tool} == {
        "fridge 1": "cool",
        "microwave 1": "heat",
        "sinkbasin 1": "clean",
    }
    assert [place.name for place in game.at["loc_bar_1"]] == ["countertop 1", "sinkbasin 1"]
    assert [place.name for place in game.targets] == ["diningtable 2", "diningtable 1"]
    assert "go to sinkbasin 1" not in game.ways["loc_bar_1"]
    assert {thing.name for thing in game.cool} == {"bread 1"}
