"""Memory by hand, and against all tensors of updates on a CPU."""

from typing import Any

import pytest
import torch

from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.memory import (
    GIB,
    EngineMemory,
    LearnerMemory,
    chunk_rows,
    micro_batch_tokens,
    requests_at_once,
)
from agent_rl.commands.bench.gpu.shapes import PUBLISHED, shape_of
from agent_rl.commands.bench.gpu.tensor_memory import memory_meter
from agent_rl.config import Config
from agent_rl.config.model import ModelSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.samples import TrainingSample
from agent_rl.policy.from_scratch import init_model, train_tokenizer

QWEN = shape_of(PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"])
LOAD = StepLoad(episodes=128, turns=15, observation_tokens=270, action_tokens=100)


def config_of(**sections: Any) -> Config:
    return Config.model_validate({"run_folder": "r", **sections})


def learner_of(**settings: Any) -> LearnerMemory:
    values = {"dtype": "bfloat16", "micro_batch_tokens": 16384, "logit_chunk": 2048, **settings}
    return LearnerMemory.of(config_of(learner=values), QWEN, LOAD)


def test_the_state_of_the_learner_by_hand() -> None:
    memory = learner_of()
    whole = 4 * 1_543_714_304
    assert (memory.weights, memory.gradients, memory.moments) == (whole, whole, 2 * whole)
    assert (memory.reference, memory.optimizer) == (0, whole)
    assert learner_of(beta=0.1).reference == whole
    halves = learner_of(ranks=2, beta=0.1)
    assert (halves.weights, halves.moments, halves.reference) == (whole / 2, whole, whole / 2)
    muon = learner_of(muon_learning_rate=1e-3)
    assert muon.moments == 2 * whole - 4 * QWEN.matrix_weights


def test_an_adapter_has_small_gradients_and_needs_no_reference() -> None:
    values = {"learner": {"beta": 0.1}, "model": {"path": "x", "lora": {"rank": 8}}}
    memory = LearnerMemory.of(config_of(**values), QWEN, LOAD)
    assert memory.reference == 0
    assert memory.gradients == 4 * QWEN.trained(config_of(**values).model.lora)
    assert memory.gradients < memory.weights / 100


def test_activations_and_logits_by_hand() -> None:
    memory = learner_of(activation_checkpointing=True)
    assert memory.activations == (28 + 4) * 16384 * 1536 * 4
    layer = 26 * 1536 + 6 * 1536 + 4 * 256 + 8 * 8960 + 5 * 12
    assert memory.layer == 16384 * layer
    assert memory.copies == 2 * QWEN.matrix_weights / 28
    # A pass has 16384 x 100 / 370 = 4428 rows: three chunks, and one more gradient of the head.
    assert memory.logits == (5 * 2048 + 1536) * 151936 * 4
    backward = memory.activations + memory.copies + memory.logits
    assert memory.peak == 16 * QWEN.parameters + backward
    kept = learner_of()
    assert (kept.activations, kept.layer) == (16384 * (28 * layer + 4 * 4 * 1536), 0)
    assert kept.copies == 2 * QWEN.matrix_weights


def test_the_engine_by_hand() -> None:
    serving = {"dtype": "bfloat16", "max_concurrent": 128}
    workers = {"count": 16, "envs_per_worker": 8}
    train = {"tasks_per_step": 16, "num_generations": 8}
    config = config_of(serving=serving, workers=workers, train=train)
    memory = EngineMemory.of(config, QWEN, LOAD)
    assert memory.weights == 2 * (1_543_714_304 + 1536 * 151936)
    # 28 layers of 2 heads of 128, keys and values, in 2 bytes.
    assert memory.per_token == 28 * 2 * 128 * 2 * 2
    assert memory.cache == 128 * 5550 * memory.per_token
    assert memory.needed == memory.weights + memory.cache + 2 * GIB
    parallel = config_of(serving={**serving, "tensor_parallel": 2}, workers=workers, train=train)
    assert EngineMemory.of(parallel, QWEN, LOAD).cache == memory.cache / 2


def test_requests_at_once() -> None:
    def requests(places: int, **serving: int) -> int:
        workers = {"count": 1, "envs_per_worker": places}
        return requests_at_once(config_of(serving=serving, workers=workers), LOAD)

    assert requests(100, max_concurrent=500) == 100
    assert requests(1000, max_concurrent=500) == 128
    assert requests(1000, max_concurrent=50) == 50
    assert requests(100, max_concurrent=500, replicas=3) == 34


@pytest.mark.parametrize(
    ("steps", "most", "expected"),
    [
        (1, 500, 1000),  # a longer episode has a pass of its own
        (1, 1500, 1500),
        (1, 9000, 4000),  # all there is
        (2, 9000, 2000),  # an optimizer step has half of it
        (4, 9000, 1000),
    ],
)
def test_the_tokens_of_a_pass(steps: int, most: int, expected: int) -> None:
    few = StepLoad(episodes=4, turns=10, observation_tokens=60, action_tokens=40)
    learner = {"micro_batch_tokens": most, "optimizer_steps": steps, "logit_chunk": 500}
    config = config_of(learner=learner)
    assert micro_batch_tokens(config, few) == expected
    rows = 4 * expected // 10
    assert chunk_rows(config, few, 1000) == (min(rows, 500), rows > 500)


def samples_of(load: StepLoad) -> list[TrainingSample]:
    generator = torch.Generator().manual_seed(0)
    turn = (False,) * load.observation_tokens + (True,) * load.action_tokens
    mask = turn * load.turns + (False,)
    samples = []
    for number in range(load.episodes):
        ids = tuple(torch.randint(300, (len(mask),), generator=generator).tolist())
        samples.append(
            TrainingSample(
                token_ids=ids,
                action_mask=mask,
                behavior_logprobs=(0.0,) * len(mask),
                advantages=((-1.0) ** number,) * load.turns,
            )
        )
    return samples


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"activation_checkpointing": True},
        {"activation_checkpointing": True, "logit_chunk": 64},
        {"dtype": "float32"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("vocabulary", "hidden"), [(4096, 128), (512, 256)])
def test_the_estimate_is_near_what_updates_need(
    settings: dict[str, Any], vocabulary: int, hidden: int
) -> None:
    sizes = ModelSettings(
        hidden_size=hidden, heads=4, kv_heads=2, layers=4, intermediate_size=3 * hidden, tied=True
    )
    model = init_model(sizes, train_tokenizer(["a room"], 260))
    model.resize_token_embeddings(vocabulary, mean_resizing=False)
    load = StepLoad(episodes=16, turns=2, observation_tokens=48, action_tokens=16)
    values = {"dtype": "bfloat16", "micro_batch_tokens": 512, "optimizer_steps": 2, **settings}
    config = config_of(learner={**values, "device": "cpu"})
    estimate = LearnerMemory.of(config, shape_of(model.config), load, gpu=False)
    with memory_meter(torch.device("cpu"), model.parameters()) as meter:
        learner = Learner(model, config.learner, LearnerContext(total_steps=4))
        assert meter.now == pytest.approx(estimate.weights, rel=0.01)
        for _ in range(2):  # the moments come with the first
            meter.reset()
            learner.update(samples_of(load))
        assert meter.now == pytest.approx(estimate.between_updates, rel=0.01)
        assert meter.peak == pytest.approx(estimate.peak, rel=0.12)
