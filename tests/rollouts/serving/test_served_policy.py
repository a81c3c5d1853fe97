"""An engine that cannot start says why in one sentence, with vLLM's own cause."""

from pathlib import Path

import pytest

from rollouts import ServingSettings
from rollouts.serving.policy_actor import PolicyActor
from rollouts.serving.served_policy import ServedPolicy, _root_cause
from tests.builders.models import save_policy


def test_the_cause_is_the_first_error_of_a_chain() -> None:
    try:
        try:
            raise MemoryError("no room for\n  64 blocks.")
        except MemoryError as error:
            raise RuntimeError("see the root cause above") from error
    except RuntimeError as error:
        assert _root_cause(error) == "MemoryError: no room for 64 blocks"


def test_the_cause_leaves_out_the_input_of_settings() -> None:
    with pytest.raises(ValueError) as error:
        ServingSettings(threads=0)
    assert _root_cause(error.value) == "Input should be greater than or equal to 1"


def model(folder: Path) -> Path:
    # 48 positions: an odd head size of 24 is one that vLLM's attention on CPU does not take.
    return save_policy(folder / "model", 0)


@pytest.mark.engine
def test_a_cache_that_is_too_small_is_refused_before_the_engine_starts(tmp_path: Path) -> None:
    settings = ServingSettings(kv_cache_gib=1e-5, dtype="float32")
    with pytest.raises(ValueError, match=r"serving\.kv_cache_gib: 1e-05 .*512 tokens"):
        ServedPolicy(model(tmp_path), settings)
