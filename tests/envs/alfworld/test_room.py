"""An episode's way through the room."""

from envs.alfworld.room import RoomTurn, read_room
from envs.text_env import NOTHING_HAPPENS
from tests.builders.alfworld_texts import first_text


def room_turn(place: str, *, held: str = "", opened: str = "", did: str = "") -> RoomTurn:
    return RoomTurn(place=place, held=held, opened=opened, did=did)


def test_places_things_and_what_was_opened() -> None:
    told = [
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see a mug 2."),
        ("take mug 2 from fridge 1", "You pick up the mug 2 from the fridge 1."),
        ("dance", NOTHING_HAPPENS),
        ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."),
        ("clean mug 2 with sinkbasin 1", "You clean the mug 2 using the sinkbasin 1."),
        ("move mug 2 to sinkbasin 1", "You move the mug 2 to the sinkbasin 1."),
    ]
    story = read_room(
        [first_text("put a clean mug in sinkbasin"), *(answer for _, answer in told)],
        [command for command, _ in told],
    )
    assert story is not None
    assert story.turns == (
        room_turn("fridge 1"),
        room_turn("fridge 1", opened="fridge 1"),
        room_turn("fridge 1", held="mug 2", did="took mug 2"),
        room_turn("fridge 1", held="mug 2"),
        room_turn("sinkbasin 1", held="mug 2"),
        room_turn("sinkbasin 1", held="mug 2", did="cleaned mug 2"),
        room_turn("sinkbasin 1", did="put mug 2"),
    )


def test_a_text_without_places_has_no_room() -> None:
    assert read_room(["You are in a maze.", "Yes."], ["look"]) is None
