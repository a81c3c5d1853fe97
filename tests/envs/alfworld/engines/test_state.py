"""A state on its own: copies, access, facts and the goal under a lamp."""

import pytest

from envs.alfworld.engines.game import build_game
from envs.alfworld.engines.game_file import read_problem
from envs.alfworld.engines.rules import step
from envs.alfworld.engines.state import State
from envs.alfworld.package import goals
from tests.builders.kitchen import kitchen


@pytest.fixture
def state() -> State:
    return State(build_game(read_problem(kitchen())))


def test_a_clone_shares_nothing_that_changes(state: State) -> None:
    step(state, "go to countertop 1")
    step(state, "take apple 1 from countertop 1")
    twin = state.clone()
    assert twin.facts() == state.facts()
    step(twin, "move apple 1 to sinkbasin 1")
    step(twin, "take knife 1 from countertop 1")
    step(twin, "slice apple 1 with knife 1")
    assert step(state, "inventory") == "You are carrying: a apple 1."
    assert step(state, "examine countertop 1") == (
        "On the countertop 1, you see a bread 1, and a knife 1."
    )
    assert step(state, "examine apple 1") == "There's nothing special about apple 1."


def test_a_place_is_accessible_if_it_is_here_and_not_closed(state: State) -> None:
    fridge, counter = state.game.receptacles["fridge 1"], state.game.receptacles["countertop 1"]
    assert not state.here
    assert not state.accessible(counter)
    step(state, "go to countertop 1")
    assert [place.name for place in state.here] == ["countertop 1", "sinkbasin 1"]
    assert state.accessible(counter)
    step(state, "go to fridge 1")
    assert (state.accessible(counter), state.accessible(fridge)) == (False, False)
    step(state, "open fridge 1")
    assert state.accessible(fridge)


def test_the_facts_are_those_that_the_expert_reads(state: State) -> None:
    step(state, "go to countertop 1")
    step(state, "take knife 1 from countertop 1")
    step(state, "clean knife 1 with sinkbasin 1")
    assert state.facts() == (
        "holds agent1 knife 1",
        "inreceptacle apple 1 countertop 1",
        "inreceptacle apple 1 sinkbasin 1",
        "inreceptacle bread 1 countertop 1",
        "inreceptacle desklamp 1 microwave 1",
        "inreceptacle egg 1 diningtable 2",
        "inreceptacle mug 1 fridge 1",
        "inreceptacle plate 1 diningtable 2",
        "isclean knife 1",
        "iscool bread 1",
    )


def test_a_thing_under_a_lamp_wins_while_it_is_held_there_and_the_lamp_is_on() -> None:
    text = goals().gdict["look_at_obj_in_light"]["pddl"].replace("#", "-")
    filled = text.format(obj="Bread", toggle="DeskLamp").strip().removeprefix("(:goal")
    goal, *_ = filled.rsplit(")", 2)
    state = State(build_game(read_problem(kitchen(goal=goal))))
    for command in ("go to microwave 1", "use desklamp 1", "go to countertop 1"):
        step(state, command)
    step(state, "take bread 1 from countertop 1")
    assert not state.won, "the lamp is elsewhere"
    step(state, "go to microwave 1")
    assert state.won
    step(state, "go to countertop 1")
    assert not state.won
