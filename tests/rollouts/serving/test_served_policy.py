"""New weights while a real engine samples. One engine for all tests; the last one ends it.

Its KV cache is too small for all requests at once, so some are preempted for room as well.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rollouts import Completion, ServingSettings
from rollouts.serving.engine_thread import EngineDead
from rollouts.serving.policy_actor import PolicyActor
from rollouts.serving.remote_policy import RemotePolicy
from tests.builders.models import make_model, save_policy

pytestmark = pytest.mark.engine

PROMPTS = [(*range(10, 50), 60 + n) for n in range(8)]
"""Eight prompts of 41 ids; the first 40 are the same, which fill one block of 32."""
BLOCK_BYTES = 2 * 2 * 64 * 4 * 32
"""A key and a value in 2 layers, of 64 numbers of 4 bytes, for 32 tokens."""


@dataclass
class Served:
    policy: PolicyActor
    folders: list[Path]
    models: list[Any]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folders = [save_policy(tmp_path_factory.mktemp(f"policy-{seed}"), seed) for seed in range(2)]
    settings = ServingSettings(
        kv_cache_gib=20 * BLOCK_BYTES / 2**30, dtype="float32", max_concurrent=16
    )
    policy = PolicyActor(settings)
    asyncio.run(policy.start(folders[0], 0))
    yield Served(policy, folders, [make_model(seed).float() for seed in range(2)])
    asyncio.run(policy.shutdown())


@pytest.fixture
def served(started: Served) -> Served:
    """The engine with the first model's weights, as version 0."""
    asyncio.run(started.policy.sync_weights(started.folders[0], 0))
    return started


def ask(
    served: Served, prompt: Sequence[int], seed: int, most: int = 300
) -> "asyncio.Task[Completion]":
    return asyncio.ensure_future(
        served.policy.complete(
            prompt, max_tokens=most, temperature=1.0, stop_token_ids=(), seed=seed
        )
    )


async def steps(served: Served, count: int) -> None:
    """Wait for `count` steps of the engine."""
    end = (await served.policy.steps())[0] + count
    while (await served.policy.steps())[0] < end:
        await asyncio.sleep(0.001)


def differences(model: Any, prompt: Sequence[int], completion: Completion) -> Any:
    """The absolute difference to transformers' log-prob, in nats, of each sampled id."""
    import torch

    ids = torch.tensor([[*prompt, *completion.token_ids]])
    with torch.no_grad():
        logprobs_TV = model(ids).logits[0, :-1].log_softmax(-1)
    logprobs_T = logprobs_TV.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
    return (logprobs_T - torch.tensor(completion.logprobs)).abs()


def runs(completion: Completion) -> list[tuple[int, int, int]]:
    """The version of each run, its first index and its end."""
    ends = [start for _, start in completion.versions[1:]] + [len(completion.token_ids)]
    return [(v, start, end) for (v, start), end in zip(completion.versions, ends, strict=True)]


async def sample_during_updates(served: Served, models: Sequence[int], first: int) -> list[Any]:
    """Complete all prompts with long answers while the weights of `models` come in, one by one.

    Args:
        first: the version of the first of them.
    """
    asked = [ask(served, prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    for version, model in enumerate(models, start=first):
        await steps(served, 25)
        await served.policy.sync_weights(served.folders[model], version)
    return await asyncio.gather(*asked)


def test_each_id_was_sampled_by_the_version_that_its_run_names(served: Served) -> None:
    before = asyncio.run(served.policy.statistics())
    completions = asyncio.run(sample_during_updates(served, [1, 0, 1], first=1))
    model_of = dict(enumerate([0, 1, 0, 1]))
    right, wrong = [], []
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        assert completion.versions[0][1] == 0
        assert all(
            later == version + 1 for (version, _), (later, _) in pairwise(completion.versions)
        )
        for version, start, end in runs(completion):
            by_model = [differences(m, prompt, completion)[start:end] for m in served.models]
            right += by_model[model_of[version]].tolist()
            wrong += by_model[1 - model_of[version]].tolist()
    assert max(len(completion.versions) for completion in completions) == 4
    assert max(right) < 1e-3
    assert sum(wrong) / len(wrong) > 1.0

    period = asyncio.run(served.policy.statistics()) - before
    assert (period.requests, period.reloads) == (8, 3)
    assert period.sampled_tokens == sum(len(c.token_ids) for c in completions)
    assert period.prompt_tokens == 8 * 41
    # The prompts' common block was computed once, by the request that came first.
    assert period.cached_tokens == 7 * 32
    # 20 blocks are room for two of these requests at their end. The updates are not counted.
    assert 0 < period.preemptions < 24
    assert 0.0 < period.reload_seconds + period.busy_seconds < period.seconds


def test_a_seeded_request_samples_the_same_ids_if_it_is_prefilled_anew(served: Served) -> None:
    calm = asyncio.run(sample_during_updates(served, [], first=0))
    disturbed = asyncio.run(sample_during_updates(served, [0, 0], first=1))
    assert max(len(completion.versions) for completion in disturbed) == 3
    # A prefill rounds its last bit in another way, which may rarely change an id.
    same = [a.token_ids == b.token_ids for a, b in zip(calm, disturbed, strict=True)]
    assert sum(same) >= 7


def test_a_request_that_waits_in_the_queue_meets_the_new_weights(served: Served) -> None:
    async def scenario() -> list[Completion]:
        asked = [ask(served, PROMPTS[n % 8], n, most=60) for n in range(24)]
        await steps(served, 5)
        await served.policy.sync_weights(served.folders[1], 1)
        return await asyncio.gather(*asked)

    completions = asyncio.run(scenario())
    assert completions[-1].versions == ((1, 0),)
    worst = differences(served.models[1], PROMPTS[23 % 8], completions[-1]).max()
    assert worst < 1e-3


def test_a_sleeping_engine_keeps_requests_until_new_weights_wake_it(served: Served) -> None:
    """vLLM's workers for CPU ignore the calls, so only the order of these is shown here."""
    calls: list[str] = []

    def record(engine: Any) -> None:
        executor, rpc = engine._executor, engine._executor.collective_rpc

        def recorded(method: Any, *arguments: Any, **options: Any) -> Any:
            tags = (options.get("kwargs") or {}).get("tags")
            calls.append(str(method) if tags is None else f"{method} {tags}")
            return rpc(method, *arguments, **options)

        executor.collective_rpc = recorded

    async def scenario() -> tuple[Completion, Completion]:
        playing = ask(served, PROMPTS[0], 0, most=100)
        await steps(served, 5)
        await served.policy._engine.call(record)
        await served.policy.sleep()
        asleep_at, _ = await served.policy.steps()
        waiting = ask(served, PROMPTS[1], 1, most=20)
        await asyncio.sleep(1.0)
        assert await served.policy.steps() == (asleep_at, True)
        await served.policy.sync_weights(served.folders[1], 5)
        await served.policy._engine.call(lambda engine: delattr(engine._executor, "collective_rpc"))
        return await playing, await waiting

    playing, waiting = asyncio.run(scenario())
    of_sleep = [call for call in calls if call.startswith(("sleep", "wake", "reload"))]
    assert of_sleep == [
        "sleep",
        "wake_up ['weights']",
        "reload_weights",
        "wake_up ['kv_cache']",
    ]
    assert waiting.versions == ((5, 0),)
    assert differences(served.models[1], PROMPTS[1], waiting).max() < 1e-3
    # One that was under way is prefilled anew, as after any update.
    assert [version for version, _ in playing.versions] == [0, 5]
    (_, _), (_, start) = playing.versions
    assert differences(served.models[1], PROMPTS[0], playing)[start:].max() < 1e-3


def test_batches_under_way_are_the_old_versions(served: Served) -> None:
    """On a GPU vLLM starts a batch before it takes the last one's tokens; here it is made to."""
    under_way = []

    def queue_batches(engine: Any) -> None:
        core, drain = engine._core, engine._drain
        engine._keep_cache = True  # otherwise vLLM drops the tokens of these batches
        core.batch_queue, core.batch_queue_size = deque(maxlen=2), 2
        core.step_fn = core.step_with_batch_queue

        def counted() -> Any:
            under_way.append(len(core.batch_queue))
            return drain()

        engine._drain = counted

    def back_to_normal(engine: Any) -> None:
        engine._core.batch_queue, engine._core.step_fn = None, engine._core.step
        del engine._drain
        engine._keep_cache = False

    async def update_after(count: int) -> list[Completion]:
        asked = [ask(served, prompt, seed, most=40) for seed, prompt in enumerate(PROMPTS)]
        await steps(served, count)
        await served.policy.sync_weights(served.folders[1], 1)
        completions = await asyncio.gather(*asked)
        await served.policy.sync_weights(served.folders[0], 0)
        return completions

    async def scenario() -> list[Completion]:
        await served.policy._engine.call(queue_batches)
        # A batch is under way after every other step.
        completions = await update_after(20) + await update_after(21)
        await served.policy._engine.call(back_to_normal)
        return completions

    completions = asyncio.run(scenario())
    assert 1 in under_way
    mixed = [(n, c) for n, c in enumerate(completions) if len(c.versions) == 2]
    assert len(mixed) >= 8
    for n, completion in mixed:
        start = completion.versions[1][1]
        by_old = differences(served.models[0], PROMPTS[n % 8], completion)
        assert by_old[:start].max() < 1e-3
        assert by_old[start] > 1e-3


def test_kept_keys_are_read_by_the_requests_that_wrote_them_only(served: Served) -> None:
    async def keep(kept: bool) -> None:
        await served.policy._engine.call(lambda engine: setattr(engine, "_keep_cache", kept))

    async def cached(seed: int) -> tuple[Completion, int]:
        before = (await served.policy.statistics()).cached_tokens
        completion = await ask(served, PROMPTS[0], seed, most=20)
        return completion, (await served.policy.statistics()).cached_tokens - before

    async def scenario() -> None:
        await keep(True)
        await cached(0)
        _, hits = await cached(1)
        assert hits == 32
        asked = ask(served, PROMPTS[1], 5, most=200)
        await steps(served, 15)
        await served.policy.sync_weights(served.folders[1], 11)
        fresh, hits = await cached(2)
        assert hits == 0
        assert differences(served.models[1], PROMPTS[0], fresh).max() < 1e-3
        _, hits = await cached(3)
        assert hits == 32
        # Over old keys, the new weights sample from a distribution of neither model.
        mixed = await asked
        ((_, _), (version, start)) = mixed.versions
        assert version == 11
        assert all(differences(m, PROMPTS[1], mixed)[start:].mean() > 0.05 for m in served.models)
        await keep(False)

    asyncio.run(scenario())


def test_torn_weights_end_the_engine_and_its_requests_stay_unanswered(
    served: Served, tmp_path: Path
) -> None:
    """The last test: the engine is dead afterwards."""
    folder = save_policy(tmp_path / "torn", 1)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])

    async def scenario() -> None:
        watch = asyncio.ensure_future(served.policy.until_dead())
        worker = RemotePolicy(await served.policy.address(), "worker-1")

        def ask(prompt: Sequence[int], most: int) -> "asyncio.Task[Completion]":
            asked = worker.complete(
                prompt, max_tokens=most, temperature=1.0, stop_token_ids=(), seed=1
            )
            return asyncio.ensure_future(asked)

        completion = await ask(PROMPTS[0], 4)
        assert len(completion.token_ids) == 4
        assert completion.seconds > 0
        with pytest.raises(RuntimeError) as refused:
            await ask((9999,), 4)
        assert str(refused.value) == (
            "ValueError: the prompt has the token id 9999, and the model has 304 ids; the "
            "tokenizer belongs to another model"
        )
        assert not watch.done()
        asked = ask(PROMPTS[0], 400)
        await steps(served, 3)
        local = served.policy.complete(
            PROMPTS[0], max_tokens=400, temperature=1.0, stop_token_ids=(), seed=1
        )
        for failing in (
            served.policy.sync_weights(folder, 1),
            watch,
            local,
            served.policy.check_health(),
        ):
            with pytest.raises(EngineDead, match="the serving engine died: Safetensor"):
                await failing
        await asyncio.sleep(0.1)
        assert not asked.done(), "another engine may complete it"
        asked.cancel()
        worker.close()
        assert (await served.policy.steps())[1] is False

    asyncio.run(scenario())
