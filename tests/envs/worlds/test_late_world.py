"""The environment that answers late: its delays, and that nothing else changes."""

import time
from typing import Any

import pytest

from envs import check_env, make_env
from envs.worlds.late_world import LateWorld

_ID = "envs.worlds.late_world:LateWorld"


def _late(**options: Any) -> LateWorld:
    return LateWorld(env="guess-the-number", options={"train": 1000, "valid": 8}, **options)


def test_it_keeps_the_contract() -> None:
    assert check_env(_late(seconds=0.0, most=0.0), tasks=4).passed


def test_the_texts_are_those_of_the_environment_inside() -> None:
    plain, late = make_env("guess-the-number"), make_env(_ID, env="guess-the-number", seconds=0.0)
    task = plain.tasks("train")[3]
    assert late.tasks("train") == plain.tasks("train")
    assert late.reset(seed=3, options={"task": task}) == plain.reset(seed=3, options={"task": task})
    assert late.step("5") == plain.step("5")


def test_an_answer_takes_the_delay_of_its_task() -> None:
    late = _late(seconds=0.05)
    task = late.tasks("train")[0]
    late.reset(seed=0, options={"task": task})
    begin = time.perf_counter()
    late.step("5")
    assert time.perf_counter() - begin >= late.delay(task) >= 0.05


def test_few_tasks_are_much_slower_and_none_is_slower_than_the_most() -> None:
    late = _late(seconds=0.01, tail=1.5, most=0.2)
    delays = [late.delay(task) for task in late.tasks("train")]
    # Pareto: the share above ten times the shortest is 10 ** -1.5, 32 of 1000.
    assert 15 < sum(delay > 0.1 for delay in delays) < 60
    assert min(delays) >= 0.01
    assert max(delays) == 0.2
    assert delays == [late.delay(task) for task in late.tasks("train")]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"seconds": 3.0}, "seconds 3.0 must be from 0 to most, which is 2.0"),
        ({"seconds": -1.0}, "seconds -1.0 must be from 0 to most"),
        ({"tail": 0.0}, "tail 0.0 must be above 0"),
    ],
)
def test_wrong_delays_are_refused(options: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        _late(**options)
