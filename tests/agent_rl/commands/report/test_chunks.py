"""What the page holds of an episode."""

import numpy as np

from agent_rl.commands.report.chunks import Chunk, TurnTraining, packed, unpacked
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
    training = [TurnTraining(advantage=a, trained=a != 0.0) for a in (1.5, -0.5, 0.0)]
    chunk.add(episode, None, training)
    held = unpacked(chunk.packed())
    text, (record,) = held["texts"].__getitem__, held["episodes"]
    one, two, three = record["turns"]
    assert (text(one["o"]), text(one["x"]), text(record["last"])) == ("o", "look", "end")
    assert (one["p"], one["i"], one["l"]) == ([1, 4], [3, 2], [-2500, -10000])
    assert (one["a"], one["g"], one["r"], one["v"]) == (1.5, 1, 0.5, [[0, 0]])
    assert (three["a"], "g" in three) == (0.0, False)
    assert (two["a"], two["unread"], two["refused"], two["v"]) == (-0.5, 1, 1, [[7, 0]])
    assert (three["f"], three["n"], three["k"]) == ("length", 1, "thought")
    assert not {"f", "n", "k", "refused", "unread", "c", "t"} & one.keys()


def test_an_episode_that_was_not_played_to_train_has_no_advantage() -> None:
    chunk = Chunk()
    chunk.add(trajectory(turn()), None)
    (record,) = unpacked(chunk.packed())["episodes"]
    assert not {"a", "g", "t"} & record["turns"][0].keys()


def test_recorded_numbers_of_tokens() -> None:
    numbers = {name: np.zeros(2, dtype=np.float32) for name in ("kl", "left_out", "capped")}
    numbers["log_ratio"] = np.log(np.array([1.03126, 20.5], dtype=np.float32))
    numbers["weight"] = np.array([np.nan, -0.12346], dtype=np.float32)
    numbers["mismatch"] = np.array([0.0000123456, 2.0], dtype=np.float32)
    numbers["entropy"] = np.array([0.5, 0.5], dtype=np.float32)
    numbers["share"] = np.array([0.001, 0.001], dtype=np.float32)
    numbers["clipped"] = np.array([0, 2], dtype=np.uint8)
    numbers["staleness"] = np.array([1, 1], dtype=np.int32)
    chunk = Chunk()
    chunk.add(trajectory(turn()), None, [TurnTraining(trained=True, tokens=numbers)])
    (record,) = unpacked(chunk.packed())["episodes"]
    assert record["turns"][0]["t"] == {
        "ratio": [1.0313, 20.5],
        "weight": [None, -0.1235],
        "entropy": 0.5,
        "mismatch": [1.23e-05, 2.0],
        "share": 0.001,
        "clipped": [0, 2],
        "staleness": 1,
    }


def test_control_characters_are_spelled_out_and_texts_are_held_once() -> None:
    chunk = Chunk()
    for _ in range(3):
        chunk.add(trajectory(turn(observation=HOSTILE)), None)
    assert unpacked(chunk.packed())["texts"].count(HOSTILE_SHOWN) == 1
