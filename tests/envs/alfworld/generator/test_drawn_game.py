"""A generated game by hand: its names, what a player can find out, and its walkthrough."""

from dataclasses import replace

import pytest

from envs.alfworld.generator.drawn_game import DrawnGame, DrawnThing
from envs.alfworld.generator.layouts import LayoutReceptacle


def receptacle(kind: str, *, openable: bool = False) -> LayoutReceptacle:
    return LayoutReceptacle(
        id=f"{kind}_bar_1",
        type=kind,
        location=f"loc_{kind}",
        position=(0.0, 0.0, 0.0),
        openable=openable,
    )


def thing(kind: str, number: str, place: str) -> DrawnThing:
    return DrawnThing(id=f"{kind}_bar_{number}", type=kind, place=f"{place}_bar_1")


GAME = DrawnGame(
    family="pick_heat_then_place_in_recep",
    scene=3,
    object_type="Mug",
    target="Desk",
    template="heat some {obj} and put it in {recep}.",
    receptacles=(
        receptacle("Cabinet", openable=True),
        receptacle("Desk"),
        receptacle("Microwave", openable=True),
    ),
    things=(thing("Mug", "b", "Cabinet"), thing("Mug", "a", "Cabinet")),
)


def test_names_count_down_in_the_order_of_the_ids() -> None:
    pens = tuple(thing("Pen", each, "Desk") for each in "bca")
    names = replace(GAME, things=pens).names
    assert [names[f"Pen_bar_{each}"] for each in "abc"] == ["pen 3", "pen 2", "pen 1"]


def test_a_signature_has_all_that_a_player_sees_and_no_ids() -> None:
    assert GAME.sentence == "heat some mug and put it in desk."
    assert GAME.signature() == (
        "pick_heat_then_place_in_recep",
        "heat some mug and put it in desk.",
        "cabinet 1",
        "desk 1",
        "microwave 1",
        "mug 1 in cabinet 1",
        "mug 2 in cabinet 1",
    )
    other_ids = (thing("Mug", "x", "Cabinet"), thing("Mug", "y", "Cabinet"))
    assert replace(GAME, things=other_ids).signature() == GAME.signature()


@pytest.mark.parametrize(
    ("family", "walkthrough"),
    [
        (
            "pick_heat_then_place_in_recep",
            ["go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1", "go to microwave 1",
             "heat mug 1 with microwave 1", "go to desk 1", "move mug 1 to desk 1"],
        ),
        (
            "pick_two_obj_and_place",
            ["go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1", "go to desk 1",
             "move mug 1 to desk 1", "go to cabinet 1", "take mug 2 from cabinet 1",
             "go to desk 1", "move mug 2 to desk 1"],
        ),
    ],
)  # fmt: skip
def test_a_walkthrough_opens_what_it_must_and_nothing_twice(
    family: str, walkthrough: list[str]
) -> None:
    assert replace(GAME, family=family).walkthrough() == walkthrough


def test_the_walkthrough_of_a_lamp_ends_with_its_use() -> None:
    things = (thing("Mug", "a", "Cabinet"), thing("DeskLamp", "a", "Desk"))
    game = replace(GAME, family="look_at_obj_in_light", target="DeskLamp", things=things)
    assert game.walkthrough()[-3:] == [
        "take mug 1 from cabinet 1",
        "go to desk 1",
        "use desklamp 1",
    ]


def test_a_problem_states_only_what_the_room_can_use() -> None:
    problem = GAME.to_json("p")["pddl_problem"]
    assert "(heatable Mug_bar_a)" in problem
    assert "(coolable" not in problem, "there is no fridge"
    assert "(openable Cabinet_bar_1)" in problem
    assert "(atLocation agent1 loc_bar_0_bar_0_bar_0_bar_60)" in problem
    assert problem.count("(") == problem.count(")")
