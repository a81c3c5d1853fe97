"""Calls of several processes: which of their errors is told."""

import os
import time
from collections.abc import Iterator

import pytest

from rollouts.processes.ray_failures import death_of
from rollouts.processes.ray_processes import (
    calls_of_all,
    end_processes,
    process_of,
    start_ray,
    stop_ray,
    wait_for_all,
)

pytestmark = pytest.mark.process


class Rank:
    """One of two: the first tells of a lost connection before the second has ended."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def update(self, error: str) -> None:
        if self.rank == 0:
            raise ValueError(error) if error == "a bad value" else RuntimeError(error)
        time.sleep(1)
        os._exit(1)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    start_ray()
    yield
    stop_ray()


def error_of(error: str) -> Exception:
    """What a call of both ranks raises."""
    ranks = [process_of(Rank, max_concurrency=1, environment={})(rank) for rank in range(2)]
    wait_for_all(calls_of_all(ranks, "__ray_ready__"))
    with pytest.raises(Exception) as raised:  # noqa: PT011
        wait_for_all(calls_of_all(ranks, "update", error))
    end_processes(ranks)
    return raised.value


def test_a_death_comes_before_what_others_say_of_it() -> None:
    error = error_of("connection reset by peer")
    assert death_of(error) is not None, error


def test_an_error_that_a_user_can_act_on_is_raised_at_once() -> None:
    """Waiting for the other's death would raise that."""
    error = error_of("a bad value")
    assert (type(error), str(error)) == (ValueError, "a bad value")
