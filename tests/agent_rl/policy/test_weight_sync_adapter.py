"""An adapter that vLLM serves as one. One engine for all tests; the last one ends it."""

import asyncio
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_rl.config.model import LoraSettings
from agent_rl.policy.loading import load_to_train
from agent_rl.policy.weight_sync import ServingCopy
from rollouts import Completion, ServingSettings
from rollouts.serving.engine_thread import EngineDead
from rollouts.serving.policy_actor import PolicyActor
from tests.builders.models import save_policy

pytestmark = pytest.mark.engine

PROMPT = tuple(range(10, 51))
"""41 ids, of which the first 32 fill a block of the prefix cache."""


@dataclass
class Served:
    policy: PolicyActor
    copy: ServingCopy
    model: Any
    """The learner's, as version `len(past)`."""
    past: list[Any] = field(default_factory=list)
    """The learner's models before the updates, by version."""

    def update(self) -> None:
        """Train the adapter, and write the new version."""
        self.past.append(copy.deepcopy(self.model))
        torch.manual_seed(len(self.past))
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        self.copy.write()

    async def sync(self) -> None:
        await self.policy.sync_weights(self.copy.folder, len(self.past))

    async def sample(self, seed: int, most: int = 40) -> Completion:
        return await self.policy.complete(
            PROMPT, max_tokens=most, temperature=1.0, stop_token_ids=(), seed=seed
        )

    async def cached_tokens(self) -> int:
        return (await self.policy.statistics()).cached_tokens


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    source = save_policy(tmp_path_factory.mktemp("base"), 0)
    model, tokenizer = load_to_train(str(source), LoraSettings(rank=3, alpha=5))
    weights = ServingCopy(model, tokenizer, "float32", lora="adapter")
    policy = PolicyActor(ServingSettings(kv_cache_gib=0.05, dtype="float32", max_concurrent=8))
    asyncio.run(policy.start(weights.folder, 0))
    yield Served(policy, weights, model)
    asyncio.run(policy.shutdown())
    weights.close()


def differences(model: Any, completion: Completion) -> Any:
    """The absolute difference to the learner's log-prob, in nats, of each sampled id."""
    ids = torch.tensor([[*PROMPT, *completion.token_ids]])
    with torch.no_grad():
        logprobs_TV = model(ids).logits[0, :-1].log_softmax(-1)
    logprobs_T = logprobs_TV.gather(1, ids[0, 1:, None])[len(PROMPT) - 1 :, 0]
    return (logprobs_T - torch.tensor(completion.logprobs)).abs()


def test_sampler_and_learner_agree_before_and_after_two_updates(served: Served) -> None:
    base = (served.copy.folder / "model.safetensors").stat()

    async def scenario() -> None:
        for version in range(3):
            if version:
                served.update()
                await served.sync()
            before = await served.cached_tokens()
            fresh = await served.sample(version)
            assert await served.cached_tokens() == before, "keys of the old adapter"
            again = await served.sample(version)
            assert await served.cached_tokens() == before + 32
            for completion in (fresh, again):
                assert completion.versions == ((version, 0),)
                assert differences(served.model, completion).max() < 1e-3
            if version:
                assert differences(served.past[-1], fresh).mean() > 0.1

    asyncio.run(scenario())
    after = (served.copy.folder / "model.safetensors").stat()
    assert (after.st_ino, after.st_mtime_ns) == (base.st_ino, base.st_mtime_ns)


def test_a_request_in_flight_goes_on_with_the_new_adapter(served: Served) -> None:
    async def scenario() -> Completion:
        asked = asyncio.ensure_future(served.sample(0, most=200))
        first = (await served.policy.steps())[0]
        while (await served.policy.steps())[0] < first + 20:
            await asyncio.sleep(0.001)
        served.update()
        await served.sync()
        return await asked

    completion = asyncio.run(scenario())
    version = len(served.past)
    ((old, _), (new, start)) = completion.versions
    assert (old, new) == (version - 1, version)
    assert differences(served.past[-1], completion)[:start].max() < 1e-3
    assert differences(served.model, completion)[start:].max() < 1e-3


def test_whole_weights_are_no_adapter(served: Served, tmp_path: Path) -> None:
    """The engine would serve them without the adapter."""
    folder = save_policy(tmp_path / "whole", 1)
    with pytest.raises(RuntimeError, match="holds whole weights, and the engine has started with"):
        asyncio.run(served.policy._engine.call(lambda engine: engine._load(folder)))


def test_an_adapter_on_a_layer_that_vllm_leaves_out_ends_the_engine(served: Served) -> None:
    """The last test: the engine is dead afterwards. It would serve a part of the adapter."""

    def lose_a_layer(engine: Any) -> None:
        runner = engine._executor.driver_worker.worker.model_runner
        del runner.lora_manager._adapter_manager.modules["model.layers.1.self_attn.qkv_proj"]

    async def scenario() -> None:
        await served.policy._engine.call(lose_a_layer)
        await served.sync()

    with pytest.raises(
        EngineDead, match=r"leaves out the adapter's part for model\.layers\.1\.self"
    ):
        asyncio.run(scenario())
