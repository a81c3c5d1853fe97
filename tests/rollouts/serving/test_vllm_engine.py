"""An engine that cannot start says why in one sentence, with vLLM's own cause."""

import asyncio
import json
from pathlib import Path

import pytest

from rollouts import ServingSettings
from rollouts.serving.policy_actor import PolicyActor
from tests.builders.models import save_policy


@pytest.mark.engine
def test_an_engine_that_does_not_start_says_why(tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "model", 0)

    def refused(settings: ServingSettings) -> str:
        actor = PolicyActor(settings)
        with pytest.raises(ValueError, match=r"serving\.kv_cache_gib") as error:
            asyncio.run(actor.start(folder, 0))
        asyncio.run(actor.shutdown())
        return str(error.value)

    small = ServingSettings(kv_cache_gib=1e-5, dtype="float32")
    assert "one sequence of 512 tokens" in refused(small)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["StrangeForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config))
    message = refused(ServingSettings())
    assert "the serving engine (vLLM) cannot start: Model architectures ['StrangeFor" in message
    assert len(message) < 600
