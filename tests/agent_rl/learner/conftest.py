"""Learners in processes of their own, for the tests of a module."""

from collections.abc import Iterator

import pytest
import torch

from agent_rl.learner.processes import LearnerProcesses
from rollouts import ServingSettings
from tests.builders.learner_processes import settings_of
from tests.builders.two_ranks import OnBoth, two_ranks


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: with such a small model, threads mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def on_both() -> Iterator[OnBoth]:
    """Calls a function of the test's module in two ranks, which live as long as its tests."""
    with two_ranks() as call:
        yield call


@pytest.fixture(scope="module")
def one() -> Iterator[LearnerProcesses]:
    """A learner in a process of its own."""
    with LearnerProcesses(settings_of(1, 40), ServingSettings(dtype="bfloat16")) as learner:
        yield learner


@pytest.fixture(scope="module")
def two() -> Iterator[LearnerProcesses]:
    """Two ranks. Starting them takes seconds: a later `open` takes those of the one before."""
    with LearnerProcesses(settings_of(2, 40), ServingSettings(dtype="bfloat16")) as learner:
        yield learner
