"""What the page holds of an episode."""

from agent_rl.commands.report.chunks import Chunk, packed, unpacked
from rollouts import FinishReason
from tests.builders.episodes import trajectory, turn
from tests.builders.reports import HOSTILE, HOSTILE_SHOWN


def test_what_is_packed_is_unpacked() -> None:
    assert unpacked(packed({"a": [1, "\u202e"]})) == {"a": [1, "\u202e"]}


def test_an_episode_in_a_chunk() -> None:
    chunk = Chunk()
    first = turn((1, 4), (3, 2), logprobs=(-0.25, -1.00004), reward=0.5, observation="o")
    second = turn(observation="o", text="go", command=None, admissible=False, versions=((7, 0),))
    cut = turn(finish_reason=FinishReason.LENGTH, new_prompt=True, kind="thought")
    episode = trajectory(first, second, cut, final_observation="end")
    chunk.add(episode, [1.5, -0.5, 0.0], None, ())
    held = unpacked(chunk.packed())
    text, (record,) = held["texts"].__getitem__, held["episodes"]
    one, two, three = record["turns"]
    assert (text(one["o"]), text(one["x"]), text(record["last"])) == ("o", "look", "end")
    assert (one["p"], one["i"], one["l"]) == ([1, 4], [3, 2], [-2500, -10000])
    assert (one["a"], one["r"], one["v"]) == (1.5, 0.5, [[0, 0]])
    assert (two["a"], two["unread"], two["refused"], two["v"]) == (-0.5, 1, 1, [[7, 0]])
    assert (three["f"], three["n"], three["k"]) == ("length", 1, "thought")
    assert not {"f", "n", "k", "refused", "unread", "c", "t"} & one.keys()


def test_an_episode_that_does_not_train_has_no_advantage() -> None:
    chunk = Chunk()
    chunk.add(trajectory(turn()), None, None, ())
    (record,) = unpacked(chunk.packed())["episodes"]
    assert "a" not in record["turns"][0]


def test_recorded_numbers_of_tokens() -> None:
    chunk = Chunk()
    chunk.add(trajectory(turn()), [0.0], None, [{"ratio": (1.00001, 0.987654)}])
    (record,) = unpacked(chunk.packed())["episodes"]
    assert record["turns"][0]["t"] == {"ratio": [1.0, 0.9877]}


def test_control_characters_are_spelled_out_and_texts_are_held_once() -> None:
    chunk = Chunk()
    for _ in range(3):
        chunk.add(trajectory(turn(observation=HOSTILE)), [0.0], None, ())
    assert unpacked(chunk.packed())["texts"].count(HOSTILE_SHOWN) == 1
