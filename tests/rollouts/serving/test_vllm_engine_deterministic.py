"""With `deterministic`, an answer depends on its prompt, the weights and its seed only."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from rollouts import Completion, ServingSettings
from rollouts.serving.served_policy import ServedPolicy
from tests.builders.models import save_policy
from tests.builders.paths import ROOT

LONG = 1024
"""A context above the 500 keys or so at which attention begins a second tile on this size."""


def prompts() -> list[tuple[int, ...]]:
    """Prompts of 40 to 940 tokens."""
    rng = random.Random(0)
    return [tuple(rng.randrange(4, 300) for _ in range(length)) for length in range(40, 941, 100)]


async def answer(policy: ServedPolicy, number: int, ids: tuple[int, ...]) -> Completion:
    return await policy.complete(
        ids, max_tokens=6, temperature=1.0, stop_token_ids=[1], seed=100 + number
    )


async def answers_alone_together_and_again(policy: ServedPolicy) -> list[list[Completion]]:
    asked = list(enumerate(prompts()))
    alone = [await answer(policy, n, ids) for n, ids in asked]
    together = await asyncio.gather(*[answer(policy, n, ids) for n, ids in asked])
    # As in an episode: the engine has seen the beginning of each prompt.
    for n, ids in asked:
        await answer(policy, n, ids[: len(ids) // 2])
    later = [answer(policy, n, ids) for n, ids in reversed(asked)]
    return [alone, list(together), list(reversed(await asyncio.gather(*later)))]


def bits(completion: Completion) -> tuple[object, ...]:
    return completion.token_ids, completion.logprobs, completion.finish_reason


@pytest.mark.slow
@pytest.mark.engine
def test_an_answer_does_not_depend_on_what_else_is_sampled(tmp_path: Path) -> None:
    # In a process of its own, as the policy actor's: another engine, or torch, may have set up
    # more threads in this one.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, check=True)


def compare_answers(folder: Path) -> None:
    save_policy(folder, 0, positions=LONG)
    settings = ServingSettings(deterministic=True, kv_cache_gib=0.25, max_concurrent=16)
    policy = ServedPolicy(folder, settings)

    async def ask() -> list[list[Completion]]:
        try:
            return await answers_alone_together_and_again(policy)
        finally:
            await policy.shutdown()

    alone, together, later = asyncio.run(ask())
    for one, other, third in zip(alone, together, later, strict=True):
        assert bits(one) == bits(other) == bits(third)
    assert len({completion.token_ids for completion in alone}) > 1


def test_settings_that_would_round_by_the_batch_are_refused() -> None:
    assert ServingSettings(deterministic=True).dtype == "float32"
    assert ServingSettings(deterministic=True, dtype="float32").dtype == "float32"
    assert ServingSettings().dtype == "auto"
    with pytest.raises(ValidationError, match=r"bfloat16 may round .* use float32 or auto"):
        ServingSettings(deterministic=True, dtype="bfloat16")
    with pytest.raises(ValidationError, match=r"threads: 2 threads .* use threads: 1"):
        ServingSettings(deterministic=True, threads=2)
    with pytest.raises(ValidationError, match=r"tensor_parallel: 2 is not tested"):
        ServingSettings(deterministic=True, tensor_parallel=2)


if __name__ == "__main__":
    compare_answers(Path(sys.argv[1]))
