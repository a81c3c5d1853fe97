"""Counting where things are, and the JSON that comes of it."""

import json
from pathlib import Path

import pytest

from envs.alfworld.engines.game import Game, Receptacle, Thing
from envs.alfworld.engines.game_file import Goal
from envs.alfworld.experts.count_places import count_places, print_places, table_text
from tests.builders.kitchen import write_kitchen


def room(**contents: str) -> Game:
    """A game with these things, by place: `fridge_1="mug 1, egg 2"`. Fridges and drawers can be
    opened.
    """
    held = {}
    for place, things in contents.items():
        kind, _, number = place.partition("_")
        receptacle = Receptacle(
            rank=0,
            name=f"{kind} {number}",
            type="",
            location="",
            openable=kind in ("fridge", "drawer"),
            tool="",
            accepts=frozenset(),
        )
        held[receptacle] = tuple(_thing(name) for name in things.split(", ") if name)
    return Game(
        sentence="",
        goal=Goal(family="", thing="", target="", verb="", count=1),
        walkthrough=(),
        things={},
        receptacles={},
        at={},
        ways={},
        targets=(),
        start="",
        contents=held,
        spots=frozenset(),
        cool=frozenset(),
    )


def _thing(name: str) -> Thing:
    return Thing(
        rank=0,
        name=name,
        type="",
        pickupable=True,
        toggleable=False,
        sliceable=False,
        knife=False,
        abilities=frozenset(),
        holds=None,
    )


def test_places_are_counted_by_finds_per_command() -> None:
    """Mugs: 2 of 3 sinks in 3 commands, 2 of 2 fridges in 4, 2 of 5 shelves in 5; the room without
    one does not count.

    Eggs: 2 of 2 fridges in 4 commands, 1 of 4 shelves in 4.
    """
    games = [
        room(
            fridge_1="mug 1, egg 1",
            shelf_1="mug 3, mug 2",
            shelf_2="",
            shelf_3="",
            sinkbasin_1="mug 4",
        ),
        room(fridge_1="mug 1", shelf_1="", shelf_2="mug 2", sinkbasin_1="mug 3", sinkbasin_2=""),
        room(fridge_1="egg 1", shelf_1="egg 2", bed_1="", sinkbasin_1="", sinkbasin_2=""),
    ]
    assert count_places(games) == {
        "egg": ("fridge", "shelf"),
        "mug": ("sinkbasin", "fridge", "shelf"),
    }


def test_the_table_has_a_line_for_each_kind_of_thing() -> None:
    table = {"egg": ("fridge", "shelf"), "mug": ("desk",)}
    text = table_text(table)
    assert text == '{\n  "egg": ["fridge", "shelf"],\n  "mug": ["desk"]\n}\n'
    assert json.loads(text) == {"egg": ["fridge", "shelf"], "mug": ["desk"]}


def test_the_command_prints_the_table_of_the_training_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kitchen has one of each place but two tables, and its bread is on the counter."""
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    write_kitchen(tmp_path)
    print_places([str(tmp_path)])
    table = json.loads(capsys.readouterr().out)
    assert table["bread"] == ["countertop"]
    assert table["apple"] == ["countertop", "sinkbasin"]
    assert table["mug"] == ["fridge"]
    assert list(table) == sorted(table)
    with pytest.raises(SystemExit, match="usage: python -m"):
        print_places([])
    with pytest.raises(SystemExit, match="is not a folder"):
        print_places([str(tmp_path / "nowhere")])
