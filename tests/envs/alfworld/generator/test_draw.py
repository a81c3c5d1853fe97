"""Rooms and things as they are drawn, and which tasks a floor plan allows."""

import random
from collections import Counter
from dataclasses import replace

from envs.alfworld.generator.draw import draw_game, goals_in
from envs.alfworld.generator.drawn_game import DrawnGame
from envs.alfworld.generator.layouts import SCENES, load_layout
from envs.alfworld.names import CLEAN, FAMILIES, LOOK, PLACE
from envs.alfworld.package import constants


def draw(seed: int, *, copies: int = 2) -> DrawnGame | None:
    rng = random.Random(seed)
    layout = load_layout(rng.choice(SCENES[:30]))
    family = rng.choice([family for family in FAMILIES if family != "look_at_obj_in_light"])
    return draw_game(layout, family, rng, receptacles=(4, 6), objects=(4, 7), copies=copies)


def test_rooms_are_as_asked_and_leave_something_to_do() -> None:
    games = [game for game in map(draw, range(300)) if game is not None]
    assert len(games) > 200
    for game in games:
        kinds = {receptacle.id: receptacle.type for receptacle in game.receptacles}
        assert 4 <= len(kinds) <= 6
        assert 4 <= len(game.things) <= 7
        assert max(Counter(kinds.values()).values()) <= 2
        assert len({receptacle.location for receptacle in game.receptacles}) == len(kinds)
        wanted = [thing for thing in game.things if thing.type == game.object_type]
        assert len(wanted) >= (2 if game.family == "pick_two_obj_and_place" else 1)
        assert all(kinds[thing.place] != game.target for thing in wanted)
        holds = constants().VAL_RECEPTACLE_OBJECTS
        assert all(thing.type in holds[kinds[thing.place]] for thing in game.things)


def test_goals_are_what_fits_into_the_target_and_somewhere_else() -> None:
    """Mugs fit into cabinets and on counters, apples into fridges and on counters."""
    kitchen = load_layout(3).keep(("Mug", "Apple"), ("CounterTop", "Cabinet", "Fridge"))
    assert {place.type for place in kitchen.receptacles} == {"CounterTop", "Cabinet", "Fridge"}
    assert goals_in(kitchen, PLACE) == {
        "Cabinet": ["Mug"],
        "CounterTop": ["Apple", "Mug"],
        "Fridge": ["Apple", "Mug"],
    }
    assert goals_in(kitchen, CLEAN) == {}, "there is no sink"
    assert goals_in(kitchen, LOOK) == {}, "there is no lamp"
    alone = replace(kitchen, receptacles=kitchen.receptacles[:1])
    assert goals_in(alone, PLACE) == {}, "there is nowhere else"


def test_a_lamp_stands_where_lamps_stand() -> None:
    layout = next(layout for layout in map(load_layout, SCENES) if goals_in(layout, LOOK))
    games = []
    for seed in range(40):
        rng = random.Random(seed)
        games.append(draw_game(layout, LOOK, rng, receptacles=(4, 6), objects=(4, 7), copies=2))
    drawn = [game for game in games if game is not None]
    assert len(drawn) > 10
    for game in drawn:
        kinds = {receptacle.id: receptacle.type for receptacle in game.receptacles}
        lamps = [thing for thing in game.things if thing.type == "DeskLamp"]
        assert lamps
        assert {kinds[lamp.place] for lamp in lamps} <= {
            "CoffeeTable",
            "Desk",
            "Dresser",
            "Shelf",
            "SideTable",
        }
