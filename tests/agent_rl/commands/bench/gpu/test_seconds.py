from typing import Any

import pytest

from agent_rl.commands.bench.gpu.gpus import Gpu
from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.memory import EngineMemory
from agent_rl.commands.bench.gpu.seconds import StepPart, parts_of
from agent_rl.commands.bench.gpu.shapes import PUBLISHED, shape_of
from agent_rl.config import Config

QWEN = shape_of(PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"])
LOAD = StepLoad(episodes=128, turns=15, observation_tokens=270, action_tokens=100)
GPU = Gpu(
    title="g", memory_gib=80, bandwidth=2e12, bfloat16=1e15, float32=1e14, seen_as="no such name"
)
FORWARD = 2.0 * QWEN.matrix_weights + 2.0 * 28 * 1536 * 5550


def config_of(**sections: Any) -> Config:
    values = {
        "serving": {"dtype": "bfloat16", "max_concurrent": 128},
        "workers": {"count": 16, "envs_per_worker": 8},
        "learner": {"dtype": "bfloat16", "optimizer_steps": 8, "logit_chunk": 4096},
        **sections,
    }
    return Config.model_validate({"run_folder": "r", **values})


def parts(**sections: Any) -> dict[str, StepPart]:
    return {part.name: part for part in parts_of(config_of(**sections), QWEN, LOAD, GPU)}


def test_the_engine_by_hand() -> None:
    found = parts()
    prefill = FORWARD * 128 * 15 * 270
    assert found["prefill"].operations == pytest.approx(prefill)
    assert found["prefill"].seconds == pytest.approx(prefill / 1e15)
    # 1,500 steps read all weights and the half-full cache: memory is the limit.
    memory = EngineMemory.of(config_of(), QWEN, LOAD)
    traffic = 1500 * (memory.weights + memory.cache / 2)
    assert found["decoding"].traffic == pytest.approx(traffic)
    assert found["decoding"].seconds == pytest.approx(traffic / 2e12)


def test_two_engines_halve_the_cache_and_the_time_of_the_prompts() -> None:
    one = parts()
    two = parts(serving={"dtype": "bfloat16", "max_concurrent": 128, "replicas": 2})
    assert two["prefill"].seconds == pytest.approx(one["prefill"].seconds / 2)
    assert 0.5 < two["decoding"].seconds / one["decoding"].seconds < 1.0
    halves = parts(serving={"dtype": "bfloat16", "max_concurrent": 128, "tensor_parallel": 2})
    assert halves["decoding"].seconds == pytest.approx(one["decoding"].seconds / 2)


def test_fewer_requests_at_once_take_more_rounds() -> None:
    few = parts(serving={"dtype": "bfloat16", "max_concurrent": 50})
    memory = EngineMemory.of(config_of(), QWEN, LOAD)
    traffic = 3 * 1500 * (memory.weights + 50 / 128 * memory.cache / 2)
    assert few["decoding"].traffic == pytest.approx(traffic)


def test_the_learner_by_hand() -> None:
    found, tokens = parts(), 128 * 5550
    assert found["learner, forward only"].operations == pytest.approx(FORWARD * tokens)
    training = found["learner, training"]
    assert training.operations == pytest.approx(3 * FORWARD * tokens)
    assert training.seconds == pytest.approx(3 * FORWARD * tokens / 1e15)
    # Old log-probs, forwards, backwards twice; a pass of 5,550 tokens has 1,500 rows, one chunk.
    head = 2.0 * 4 * QWEN.head_weights * 128 * 1500
    assert found["learner, head in float32"].operations == pytest.approx(head)
    assert found["learner, head in float32"].seconds == pytest.approx(head / 1e14)
    moved = 28 * QWEN.parameters * 8
    assert found["learner, optimizer"].seconds == pytest.approx(moved / 2e12)


@pytest.mark.parametrize(
    ("settings", "forward_only", "training", "head"),
    [
        ({"optimizer_steps": 1}, 0, 3, 3),
        ({"optimizer_steps": 8, "old_logprobs": "sampler"}, 0, 3, 3),
        ({"optimizer_steps": 8, "beta": 0.01}, 2, 3, 5),
        ({"optimizer_steps": 8, "activation_checkpointing": True}, 1, 4, 4),
        ({"optimizer_steps": 8, "logit_chunk": 1000}, 1, 3, 5),
    ],
    ids=str,
)
def test_passes(settings: dict[str, Any], forward_only: int, training: int, head: int) -> None:
    found, whole = (
        parts(learner={"dtype": "bfloat16", "logit_chunk": 4096, **settings}),
        FORWARD * 128 * 5550,
    )
    assert found["learner, forward only"].operations == pytest.approx(forward_only * whole)
    assert found["learner, training"].operations == pytest.approx(training * whole)
    rows = 2.0 * QWEN.head_weights * 128 * 1500
    assert found["learner, head in float32"].operations == pytest.approx(head * rows)


def test_frozen_weights_have_no_gradient_and_ranks_share() -> None:
    whole = FORWARD * 128 * 5550
    adapter = parts(model={"path": "x", "lora": {"rank": 8}})
    assert adapter["learner, training"].operations == pytest.approx(2 * whole)
    ranks = parts(learner={"dtype": "bfloat16", "optimizer_steps": 8, "ranks": 4})
    assert ranks["learner, training"].seconds == pytest.approx(3 * whole / 1e15 / 4)
