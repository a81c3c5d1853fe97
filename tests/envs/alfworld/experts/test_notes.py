"""What is read from ALFWorld's texts."""

import pytest

from envs.alfworld.experts.notes import Errand, Notes, places_in, read_errand, read_object
from envs.text_env import NOTHING_HAPPENS, NamedObject
from tests.builders.alfworld_texts import first_text


def errand(
    thing: str, place: str = "", *, lamp: str = "", verb: str = "", two: bool = False
) -> Errand:
    return Errand(thing=thing, place=place, lamp=lamp, verb=verb, two=two)


@pytest.mark.parametrize(
    ("task", "asked"),
    [
        ("put a mug in shelf", errand("mug", "shelf")),
        ("put some soapbar on countertop", errand("soapbar", "countertop")),
        ("look at cd under the desklamp", errand("cd", lamp="desklamp")),
        ("examine the cd with the desklamp", errand("cd", lamp="desklamp")),
        ("put a clean mug in shelf", errand("mug", "shelf", verb="clean")),
        ("clean some mug and put it in shelf", errand("mug", "shelf", verb="clean")),
        ("put a hot mug in shelf", errand("mug", "shelf", verb="heat")),
        ("heat some mug and put it in shelf", errand("mug", "shelf", verb="heat")),
        ("put a cool mug in shelf", errand("mug", "shelf", verb="cool")),
        ("cool some mug and put it in shelf", errand("mug", "shelf", verb="cool")),
        ("put two mug in shelf", errand("mug", "shelf", two=True)),
        ("find two mug and put them in shelf", errand("mug", "shelf", two=True)),
    ],
)
def test_every_task_sentence_is_read(task: str, asked: Errand) -> None:
    assert read_errand(first_text(task)) == asked


@pytest.mark.parametrize(
    "task", ["put three mug in shelf", "wash some mug and put it in shelf", "look around", ""]
)
def test_a_task_of_another_form_is_refused(task: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"cannot read the task '{task}\.'.*set env.options.expert_type: handcoded",
    ):
        read_errand(first_text(task))


def test_a_first_text_without_places_is_refused() -> None:
    with pytest.raises(ValueError, match="no list of places in the first text: 'You are facing"):
        Notes("You are facing the bed 1.\n\nYour task is to: put a mug in shelf.")


def test_notes_hold_what_was_read() -> None:
    notes = Notes(first_text("heat some mug and put it in shelf"))
    assert notes.places == (
        "drawer 2",
        "drawer 1",
        "fridge 1",
        "microwave 1",
        "shelf 2",
        "shelf 1",
        "sinkbasin 1",
    )
    notes.read("go to drawer 2", "You arrive at drawer 2. The drawer 2 is closed.")
    assert (notes.here, notes.shut, notes.contents) == ({"drawer 2"}, {"drawer 2"}, {})
    notes.read("go to shelf 1", NOTHING_HAPPENS)
    notes.read("go to mug 2", NOTHING_HAPPENS)
    assert notes.here == {"drawer 2", "shelf 1"}
    notes.read(
        "open drawer 2",
        "You open the drawer 2. The drawer 2 is open. In it, you see a mug 2, and a pen 1.",
    )
    assert (notes.shut, notes.contents) == (set(), {"drawer 2": ["mug 2", "pen 1"]})
    notes.read("examine shelf 1", "On the shelf 1, you see nothing.")
    notes.read("take mug 2 from drawer 2", "You pick up the mug 2 from the drawer 2.")
    assert (notes.held, notes.origin) == ("mug 2", "drawer 2")
    assert notes.contents == {"drawer 2": ["pen 1"], "shelf 1": []}
    notes.read("heat mug 2 with microwave 1", "You heat the mug 2 using the microwave 1.")
    notes.read("clean mug 2 with sinkbasin 1", "You clean the mug 2 using the sinkbasin 1.")
    assert notes.changed == {"clean": {"mug 2"}, "heat": {"mug 2"}, "cool": set()}
    notes.read("cool mug 2 with fridge 1", "You cool the mug 2 using the fridge 1.")
    assert notes.changed == {"clean": {"mug 2"}, "heat": set(), "cool": {"mug 2"}}
    notes.read("close drawer 2", "You close the drawer 2.")
    assert notes.shut == {"drawer 2"}
    notes.read("move mug 2 to shelf 1", "You move the mug 2 to the shelf 1.")
    assert (notes.held, notes.contents) == (None, {"drawer 2": ["pen 1"], "shelf 1": ["mug 2"]})
    for idle in (
        "You are facing the drawer 2, and shelf 1. Next to it, you see a mug 2.",
        "This is a normal plate 1. In it, you see a mug 3.",
        "You are carrying: a pen 1.",
        "  examine (something):              examine a receptacle or an object",
    ):
        notes.read("look", idle)
        assert (notes.held, notes.contents) == (None, {"drawer 2": ["pen 1"], "shelf 1": ["mug 2"]})
    notes.read(
        "go to fridge 1", "You arrive at fridge 1. The fridge 1 is open. In it, you see nothing."
    )
    assert (notes.here, notes.contents["fridge 1"]) == ({"fridge 1"}, [])


def test_only_what_an_open_place_does_not_take_is_refused_for_good() -> None:
    notes = Notes(first_text("put a mug in fridge"))
    notes.read("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a pen 1.")
    notes.read("take pen 1 from shelf 1", "You pick up the pen 1 from the shelf 1.")
    notes.read("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    notes.read("move pen 1 to fridge 1", NOTHING_HAPPENS)
    assert notes.refused == set(), "the fridge is closed"
    notes.read(
        "open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see nothing."
    )
    notes.read("move mug 1 to fridge 1", NOTHING_HAPPENS)
    assert notes.refused == set(), "the mug is not in hand"
    notes.read("move pen 1 to fridge 1", NOTHING_HAPPENS)
    assert notes.refused == {("pen 1", "fridge")}


def test_the_things_that_are_here_come_first() -> None:
    notes = Notes(first_text("put a mug in fridge"))
    notes.read("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a mug 1.")
    notes.read("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 3, a mug 2.")
    assert notes.seen("mug") == [("mug 3", "shelf 2"), ("mug 2", "shelf 2"), ("mug 1", "shelf 1")]
    notes.read("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    assert [thing for thing, _ in notes.seen("mug")] == ["mug 1", "mug 3", "mug 2"]
    assert notes.seen("pen") == []


@pytest.mark.parametrize(
    ("command", "name", "is_furniture", "is_known", "other_name"),
    [
        # The room has the drawers 1 and 2.
        ("go to drawer 2", "drawer 2", True, True, "drawer 3"),
        (" go to drawer 7\n", "drawer 7", True, False, "drawer 3"),
        ("go to fridge 1", "fridge 1", True, True, ""),
        # A thing is no furniture, though a text has named it.
        ("go to mug 12", "mug 12", True, False, ""),
        ("take mug 12 from shelf 1", "mug 12", False, True, "mug 1"),
        # "mug 12" does not name "mug 1", and the task's "mug" names no thing.
        ("take mug 1 from shelf 1", "mug 1", False, False, "mug 1"),
        ("take pen 1 from drawer 9", "pen 1", False, True, "pen 2"),
    ],
)
def test_a_command_names_an_object_that_the_texts_know_or_not(
    command: str, name: str, is_furniture: bool, is_known: bool, other_name: str
) -> None:
    texts = [
        first_text("put a mug in shelf"),
        "You arrive at shelf 1. On the shelf 1, you see a mug 12, and a pen 1.",
    ]
    named = NamedObject(
        name=name, is_furniture=is_furniture, is_known=is_known, other_name=other_name
    )
    assert read_object(command, texts) == named


@pytest.mark.parametrize("command", ["look", "open drawer 9", "go to drawer", "take mug 1", ""])
def test_other_commands_name_nothing(command: str) -> None:
    assert read_object(command, [first_text("put a mug in shelf")]) is None


def test_a_text_may_list_no_places() -> None:
    assert places_in("You are facing the bed 1.") == ()
    assert read_object("go to bed 1", ["You are facing the bed 1."]) == NamedObject(
        name="bed 1", is_furniture=True, is_known=False
    )
