"""Drills: one of two real ranks is killed in an update, and one is stopped."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.from_scratch import train_tokenizer
from rollouts.processes.ray_failures import NoAnswer, death_of
from rollouts.processes.ray_processes import get, start_ray, stop_ray
from tests.builders.drills import computes, record, signal_in
from tests.builders.tiny_learner import MakeSamples, make_tiny_model

pytestmark = pytest.mark.process
LIMIT_SECONDS = 10.0
"""Of a call, once the ranks have started."""
DEADLINE_SECONDS = 15.0
"""The most between a death and the error of the call."""
SETTINGS = LearnerSettings(
    device="cpu",
    ranks=2,
    threads=1,
    micro_batch_tokens=40,
    optimizer_steps=8,
)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray for both tests."""
    start_ray()
    yield
    stop_ray()


def load() -> tuple[Any, Any]:
    return make_tiny_model(vocab_size=260), train_tokenizer(["a room"], 260)


def pids_of(learner: LearnerProcesses) -> list[int]:
    return [int(get(rank.process_id.remote())[1]) for rank in learner._ranks]


def error_of(learner: LearnerProcesses, samples: Any) -> tuple[Exception, float]:
    """What an update raises, and when (monotonic)."""
    with pytest.raises(Exception) as raised:  # noqa: PT011
        learner.update(samples)
    return raised.value, time.monotonic()


def assert_gone(pids: list[int]) -> None:
    limit = time.monotonic() + DEADLINE_SECONDS
    while any(map(psutil.pid_exists, pids)):
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_rank_that_is_killed_in_an_update_ends_the_call(random_samples: MakeSamples) -> None:
    with LearnerProcesses(SETTINGS) as learner:
        learner.open(load, SETTINGS, LearnerContext(total_steps=1000))
        learner.update(random_samples(8))
        pids, killed = pids_of(learner), []
        victim = psutil.Process(pids[1])
        kill = threading.Thread(
            target=lambda: killed.append(signal_in(victim, computes(victim), signal.SIGKILL))
        )
        kill.start()
        error, at = error_of(learner, random_samples(512))
        kill.join()
        assert death_of(error) is not None, error
        seconds = at - killed[0]
        assert seconds < DEADLINE_SECONDS
    assert_gone(pids)
    record(
        fault="SIGKILL of one of two ranks",
        state="update",
        outcome="the call raises, both ranks end",
        seconds=seconds,
        lost="steps since the checkpoint, repeated",
        parity="not compared",
    )


def test_a_rank_that_is_stopped_is_given_up(random_samples: MakeSamples) -> None:
    with LearnerProcesses(SETTINGS) as learner:
        learner.open(load, SETTINGS, LearnerContext(total_steps=1000))
        learner.update(random_samples(8))
        learner._limit_seconds = LIMIT_SECONDS
        pids, began = pids_of(learner), time.monotonic()
        os.kill(pids[1], signal.SIGSTOP)
        error, at = error_of(learner, random_samples(8))
        assert isinstance(error, NoAnswer)
        told = "the learner did not answer within 10 s (learner.timeout_seconds)"
        assert (str(error), death_of(error)) == (told, told)
        assert LIMIT_SECONDS <= at - began < LIMIT_SECONDS + DEADLINE_SECONDS
        # Whoever saves or cleans up now learns it at once.
        again, later = error_of(learner, random_samples(8))
        assert isinstance(again, NoAnswer)
        assert later - at < 1.0
    assert_gone(pids)
    record(
        fault="SIGSTOP of one of two ranks",
        state="idle, before an update",
        outcome="given up after learner.timeout_seconds (here 10), both ranks end",
        seconds=at - began,
        lost="steps since the checkpoint, repeated",
        parity="not compared",
    )
