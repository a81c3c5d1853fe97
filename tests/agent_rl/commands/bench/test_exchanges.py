"""Names that are exchanged in what was read, by hand. A token is a byte, so ids read as text."""

import random

from agent_rl.commands.bench.exchanges import (
    NameExchange,
    exchanged_prompt,
    exchanges_of,
    prompt_segments,
)
from envs.registry import object_reader
from envs.text_env import NamedObject
from rollouts import StopReason, Trajectory, Turn
from rollouts.renderer import ByteTokenizer
from tests.builders.alfworld_texts import first_text
from tests.builders.episodes import trajectory, turn

TOKENIZER = ByteTokenizer()
END = TOKENIZER.eos_token_id
DRAWER = NamedObject(name="drawer 1", is_furniture=True, is_known=True, other_name="drawer 3")
ROOM = first_text("put a mug in shelf")
ON_SHELF = "You arrive at shelf 1. On the shelf 1, you see a mug 12, and a mug 1."


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text))


def text(prompt: tuple[int, ...]) -> str:
    return TOKENIZER.decode(prompt)


def said(observation: str, command: str, *, new_prompt: bool = False) -> Turn:
    """A turn whose prompt is its observation and "> ", and whose answer is a command."""
    return turn(
        ids(f"{observation}> "),
        (*ids(command), END),
        observation=observation,
        text=command,
        command=command,
        new_prompt=new_prompt,
    )


def episode(*turns: Turn) -> Trajectory:
    return trajectory(*turns, stop_reason=StopReason.MAX_TURNS)


def test_only_the_whole_name_is_exchanged() -> None:
    segments = [ids("a drawer 1, a drawer 12> "), ids("go to drawer 1"), ids("Drawer 1.")]
    prompt = exchanged_prompt(segments, DRAWER, TOKENIZER)
    assert prompt is not None
    assert text(prompt) == "a drawer 3, a drawer 12> go to drawer 3Drawer 1."
    assert exchanged_prompt([ids("a drawer 12")], DRAWER, TOKENIZER) is None


def test_only_segments_with_the_name_are_encoded_anew() -> None:
    # No text gives this tokenizer's end token.
    assert exchanged_prompt([ids("drawer 1"), (END,)], DRAWER, TOKENIZER) == (
        *ids("drawer 3"),
        END,
    )
    assert exchanged_prompt([(*ids("drawer 1"), END)], DRAWER, TOKENIZER) is None


def test_a_new_prompt_forgets_what_was_read_before() -> None:
    played = episode(
        said("a", "x"), said("b", "y", new_prompt=True), said("c", "z"), said("d", "w")
    )
    assert prompt_segments(played, 0) == [ids("a> ")]
    assert prompt_segments(played, 1) == [ids("b> ")]
    assert prompt_segments(played, 3) == [
        ids("b> "),
        ids("y"),
        (END,),
        ids("c> "),
        ids("z"),
        (END,),
        ids("d> "),
    ]


def test_one_turn_of_each_kind_is_asked_again() -> None:
    """The fridge is the only one, drawer 9 is not listed, and mug 2 was not seen: none of these."""
    played = episode(
        said(ROOM, "go to fridge 1"),
        said("Nothing happens.", "go to drawer 9"),
        said("Nothing happens.", "take mug 2 from shelf 1"),
        said("Nothing happens.", "go to shelf 1"),
        said(ON_SHELF, "take mug 1 from shelf 1"),
    )
    furniture, thing = exchanges_of(played, object_reader("alfworld"), TOKENIZER, random.Random(0))
    assert (furniture.turn, furniture.said, furniture.named.other_name) == (
        3,
        "go to shelf 1",
        "shelf 3",
    )
    assert "a shelf 2, a shelf 3, and a sinkbasin 1" in text(furniture.prompt)
    assert (thing.turn, thing.said, thing.named.other_name) == (
        4,
        "take mug 1 from shelf 1",
        "mug 2",
    )
    assert text(thing.prompt).endswith("On the shelf 1, you see a mug 12, and a mug 2.> ")
    # All that came before is there as it was.
    before = prompt_segments(played, 4)
    assert len(thing.prompt) == sum(map(len, before))
    assert exchanges_of(played, object_reader("taxi"), TOKENIZER, random.Random(0)) == []


def test_an_answer_is_asked_for_from_its_thought_on() -> None:
    """The thought was cut off, and "|" written for the policy: it thinks anew."""
    thought = turn(ids(f"{ROOM}> "), ids("hm"), observation=ROOM, command=None, kind="thought")
    action = turn(
        ids("|"), (*ids("go to drawer 1"), END), observation=ROOM, command="go to drawer 1"
    )
    (found,) = exchanges_of(
        episode(thought, action), object_reader("alfworld"), TOKENIZER, random.Random(0)
    )
    assert found.turn == 1
    assert text(found.prompt) == ROOM.replace("drawer 1", "drawer 3") + "> "


def test_the_outcome_is_the_name_in_the_command() -> None:
    exchange = NameExchange(turn=0, said="go to drawer 1", named=DRAWER, prompt=(1,))
    commands = ("go to drawer 3", "open drawer 3", "go to drawer 1", "go to drawer 12", "look")
    assert [exchange.outcome(command) for command in commands] == [
        "follows",
        "follows",
        "keeps",
        "other",
        "other",
    ]
