"""The native engine's frames, copies and closing."""

from pathlib import Path

import pytest

from envs.alfworld.engines.native import NativeEngine
from envs.text_env import NOTHING_HAPPENS
from tests.builders.kitchen import write_kitchen

WINNING = (
    "go to sinkbasin 1",
    "take apple 1 from sinkbasin 1",
    "go to fridge 1",
    "cool apple 1 with fridge 1",
    "go to diningtable 1",
    "move apple 1 to diningtable 1",
)


def test_the_step_that_wins_has_the_reward_and_ends_the_episode(tmp_path: Path) -> None:
    engine = NativeEngine()
    frame = engine.reset(write_kitchen(tmp_path))
    for command in WINNING:
        assert (frame.reward, frame.done, frame.won, frame.facts) == (0.0, False, False, ())
        assert command in frame.commands
        frame = engine.step(command)
    assert (frame.reward, frame.done, frame.won) == (1.0, True, True)


def test_facts_are_given_if_asked_for(tmp_path: Path) -> None:
    engine = NativeEngine(facts=True)
    frame = engine.reset(write_kitchen(tmp_path))
    assert "inreceptacle mug 1 fridge 1" in frame.facts
    assert list(frame.facts) == sorted(frame.facts)


def test_a_clone_continues_by_itself(tmp_path: Path) -> None:
    engine = NativeEngine()
    engine.reset(write_kitchen(tmp_path))
    engine.step("go to fridge 1")
    twin = engine.clone()
    assert twin.step("open fridge 1").text.startswith("You open the fridge 1.")
    assert twin.step("open fridge 1").text == NOTHING_HAPPENS
    assert engine.step("open fridge 1").text.startswith("You open the fridge 1.")


def test_a_closed_engine_must_be_reset(tmp_path: Path) -> None:
    engine = NativeEngine()
    path = write_kitchen(tmp_path)
    frame = engine.reset(path)
    engine.close()
    with pytest.raises(AssertionError, match="reset comes first"):
        engine.step("look")
    assert engine.reset(path) == frame
