"""A tiny policy and samples for it, shared by the learner's tests."""

import pytest

from tests.builders.samples import make_samples
from tests.builders.tiny_learner import MakeModel, MakeSamples, make_tiny_model


@pytest.fixture
def tiny_model() -> MakeModel:
    return make_tiny_model


@pytest.fixture
def random_samples() -> MakeSamples:
    return make_samples
