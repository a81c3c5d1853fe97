"""What two ranks write for an engine that serves the adapter."""

from functools import partial

import pytest
from safetensors.torch import load_file

from agent_rl.config.model import LoraSettings
from agent_rl.learner.learner import Learner
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.weight_sync import served_files
from rollouts import ServingSettings
from tests.builders.learner_processes import (
    CONTEXT,
    assert_equal,
    load_tiny,
    settings_of,
    weights_in,
)
from tests.builders.tiny_learner import MakeSamples

pytestmark = pytest.mark.process

ADAPTER = "served_adapter/adapter_model.safetensors"


def test_the_ranks_write_the_base_once_and_then_the_adapter(random_samples: MakeSamples) -> None:
    load = partial(load_tiny, LoraSettings(rank=3, alpha=4))
    samples = random_samples(6)
    serving = ServingSettings(dtype="float32", lora="adapter")
    with LearnerProcesses(settings_of(2, 40), serving) as two:
        # The second policy has a base of its own.
        for _ in range(2):
            here = Learner(load()[0], settings_of(1, 40), CONTEXT)
            two.open(load, settings_of(2, 40), CONTEXT)
            base = (two.folder / "model.safetensors").stat().st_mtime_ns
            for _ in range(2):
                expected = served_files(here.model, "float32", "adapter")
                assert_equal(weights_in(two.folder), expected["model.safetensors"])
                assert_equal(load_file(two.folder / ADAPTER), expected[ADAPTER], most=1e-6)
                here.update(samples)
                two.update(samples)
                two.write()
            assert (two.folder / "model.safetensors").stat().st_mtime_ns == base
