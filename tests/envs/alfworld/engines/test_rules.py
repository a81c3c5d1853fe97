"""The native engine's rules, by hand, in a kitchen with every quirk."""

import pytest

from envs.alfworld.engines.game import build_game
from envs.alfworld.engines.game_file import read_problem
from envs.alfworld.engines.rules import admissible_commands, intro, step
from envs.alfworld.engines.state import State
from envs.text_env import NOTHING_HAPPENS
from tests.builders.kitchen import kitchen


@pytest.fixture
def state() -> State:
    return State(build_game(read_problem(kitchen())))


def answer_after(state: State, *commands: str) -> str:
    """The answer to the last of these commands, which must all be admissible."""
    text = ""
    for command in commands:
        assert command in admissible_commands(state), command
        text = step(state, command)
    return text


def test_the_first_observation_is_the_only_list_of_places(state: State) -> None:
    assert intro(state) == (
        "-= Welcome to TextWorld, ALFRED! =-\n\n"
        "You are in the middle of a room. Looking quickly around you, you see a countertop 1, "
        "a diningtable 2, a diningtable 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\n"
        "Your task is to: cool some apple and put it in diningtable."
    )
    nothing = "You are in the middle of a room. Looking quickly around you, you see nothing."
    assert answer_after(state, "look") == nothing
    assert answer_after(state, "inventory") == "You are not carrying anything."
    places = [
        "countertop 1",
        "diningtable 1",
        "diningtable 2",
        "fridge 1",
        "microwave 1",
        "sinkbasin 1",
    ]
    assert admissible_commands(state) == [
        *(f"go to {place}" for place in places),
        "help",
        "inventory",
        "look",
    ]


def test_places_at_one_location_are_used_without_going(state: State) -> None:
    assert answer_after(state, "go to countertop 1") == (
        "You arrive at countertop 1. "
        "On the countertop 1, you see a apple 1, a bread 1, and a knife 1."
    )
    assert "go to sinkbasin 1" not in admissible_commands(state)
    assert answer_after(state, "examine sinkbasin 1") == "On the sinkbasin 1, you see a apple 1."
    assert (
        answer_after(state, "look")
        == "You are facing the countertop 1, and sinkbasin 1. Next to it, you see nothing."
    )


def test_a_thing_in_two_places_can_be_taken_twice(state: State) -> None:
    answer_after(state, "go to countertop 1", "take apple 1 from countertop 1")
    assert answer_after(state, "examine sinkbasin 1") == "On the sinkbasin 1, you see a apple 1."
    answer_after(state, "move apple 1 to countertop 1", "take apple 1 from sinkbasin 1")
    assert (
        answer_after(state, "examine countertop 1")
        == "On the countertop 1, you see a apple 1, a bread 1, and a knife 1."
    )


def test_what_moved_to_another_place_at_the_location_is_seen_next_to_it(state: State) -> None:
    answer_after(
        state, "go to countertop 1", "take knife 1 from countertop 1", "move knife 1 to sinkbasin 1"
    )
    assert (
        answer_after(state, "look")
        == "You are facing the countertop 1, and sinkbasin 1. Next to it, you see a knife 1."
    )
    answer_after(state, "take knife 1 from sinkbasin 1", "move knife 1 to countertop 1")
    assert answer_after(state, "look").endswith("Next to it, you see a knife 1."), (
        "it has left the sinkbasin by now"
    )


def test_closed_places_show_and_give_nothing(state: State) -> None:
    assert (
        answer_after(state, "go to fridge 1") == "You arrive at fridge 1. The fridge 1 is closed."
    )
    assert step(state, "take mug 1 from fridge 1") == NOTHING_HAPPENS
    assert (
        answer_after(state, "open fridge 1")
        == "You open the fridge 1. The fridge 1 is open. In it, you see a mug 1."
    )
    assert step(state, "open fridge 1") == NOTHING_HAPPENS
    assert (
        answer_after(state, "take mug 1 from fridge 1")
        == "You pick up the mug 1 from the fridge 1."
    )
    assert answer_after(state, "inventory") == "You are carrying: a mug 1."
    assert step(state, "move mug 1 to fridge 1") == NOTHING_HAPPENS, (
        "no fridge of this game can contain a mug"
    )
    assert answer_after(state, "close fridge 1") == "You close the fridge 1."


def test_a_lamp_in_a_closed_place_can_be_used_and_never_goes_off(state: State) -> None:
    answer_after(state, "go to microwave 1")
    assert answer_after(state, "use desklamp 1") == "You turn on the desklamp 1."
    assert answer_after(state, "use desklamp 1") == "You turn on the desklamp 1."
    assert answer_after(
        state, "open microwave 1", "take desklamp 1 from microwave 1", "examine desklamp 1"
    ) == ("This desklamp 1 is on.")
    assert step(state, "use desklamp 1") == NOTHING_HAPPENS


def test_texts_for_what_was_done_to_a_thing(state: State) -> None:
    answer_after(state, "go to countertop 1", "take knife 1 from countertop 1")
    assert (
        answer_after(state, "slice apple 1 with knife 1")
        == "You sliced the apple 1 with the knife 1."
    )
    assert step(state, "slice bread 1 with knife 1") == NOTHING_HAPPENS, (
        "the bread can be reached from elsewhere only"
    )
    answer_after(state, "move knife 1 to sinkbasin 1", "take apple 1 from countertop 1")
    assert answer_after(state, "examine apple 1") == "This is a sliced apple 1."
    assert (
        answer_after(state, "clean apple 1 with sinkbasin 1")
        == "You clean the apple 1 using the sinkbasin 1."
    )
    assert answer_after(state, "examine apple 1") == "This is a clean sliced apple 1."
    answer_after(state, "go to microwave 1", "heat apple 1 with microwave 1")
    assert answer_after(state, "examine apple 1") == "This is a hot and clean sliced apple 1."
    answer_after(state, "go to fridge 1", "cool apple 1 with fridge 1")
    assert answer_after(state, "examine apple 1") == "This is a cool and clean sliced apple 1."


def test_a_thing_that_is_merely_cool_is_cold(state: State) -> None:
    answer_after(state, "go to countertop 1", "take bread 1 from countertop 1")
    assert answer_after(state, "examine bread 1") == "This is a cold bread 1."


def test_a_thing_that_holds_others_tells_only_that(state: State) -> None:
    answer_after(state, "go to diningtable 2")
    assert step(state, "examine plate 1") == NOTHING_HAPPENS
    assert answer_after(state, "take plate 1 from diningtable 2", "examine plate 1") == (
        "This is a normal plate 1. In it, you see a egg 1."
    )


def test_only_the_whole_goal_wins(state: State) -> None:
    answer_after(
        state,
        "go to sinkbasin 1",
        "take apple 1 from sinkbasin 1",
        "go to diningtable 1",
        "move apple 1 to diningtable 1",
    )
    assert not state.won, "it is not cool"
    answer_after(
        state, "take apple 1 from diningtable 1", "go to fridge 1", "cool apple 1 with fridge 1"
    )
    assert not state.won
    answer_after(state, "go to diningtable 1", "move apple 1 to diningtable 1")
    assert state.won


@pytest.mark.parametrize(
    "command",
    ["", "take", "go", "go to", "go to countertop", "GO TO countertop 1", "go  to countertop 1",
     "look around", "examine apple 1", "open countertop 1", "use window 1",
     "take countertop 1 from apple 1", "go to countertop 1."],
)  # fmt: skip
def test_everything_else_changes_nothing(state: State, command: str) -> None:
    before = admissible_commands(state)
    assert step(state, command) == NOTHING_HAPPENS
    assert admissible_commands(state) == before


def test_white_space_around_a_command_does_not_count(state: State) -> None:
    assert step(state, " \tgo to fridge 1 \n").startswith("You arrive at fridge 1.")


def test_in_the_published_games_a_sink_cleans_too() -> None:
    as_sink = {"SinkBasinType": "SinkType", "Sink_bar_1_bar_SinkBasin": "Sink_bar_1"}
    cleaned = []
    for published in (True, False):
        data = kitchen(published=published)
        for old, new in as_sink.items():
            data["pddl_problem"] = data["pddl_problem"].replace(old, new)
        state = State(build_game(read_problem(data)))
        answer_after(state, "go to sink 1", "take knife 1 from countertop 1")
        cleaned.append(step(state, "clean knife 1 with sink 1"))
    assert cleaned == ["You clean the knife 1 using the sink 1.", NOTHING_HAPPENS]
