"""The learner in two processes, against a `Learner` in this one."""

import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.config.learner import LearnerSettings
from agent_rl.config.model import LoraSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.plan import StepPlan
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.learner.samples import TrainingSample
from agent_rl.policy.saving import save_policy
from agent_rl.policy.weight_sync import save_for_serving
from tests.builders.learner_processes import (
    CONTEXT,
    assert_equal,
    load_tiny,
    settings_of,
    weights_in,
    written,
)
from tests.builders.samples import make_samples
from tests.builders.tiny_learner import OF_THE_SPLIT, WALL, MakeSamples, weights_of

pytestmark = pytest.mark.process

# What depends on the machine, or on how the samples are split.
NOT_COMPARED = WALL | OF_THE_SPLIT
_KINDS = ((1, "bfloat16"), (2, "bfloat16"), (1, "float32"))


def load_exact() -> tuple[Any, Any]:
    return load_tiny(dtype=torch.float64)


def learner_of(
    ranks: int, settings: LearnerSettings, two: LearnerProcesses
) -> Learner | LearnerProcesses:
    """A learner of the exact model: in this process, or the two ranks."""
    if ranks == 1:
        return Learner(load_exact()[0], settings, CONTEXT)
    two.open(load_exact, settings, CONTEXT)
    return two


def exact_weights(learner: Learner | LearnerProcesses, folder: Path) -> Tensor:
    """All weights in one row."""
    if isinstance(learner, Learner):
        return weights_of(cast(LlamaForCausalLM, learner.model))
    named = written(learner, folder)
    return torch.cat([named[name].flatten() for name, _ in load_exact()[0].named_parameters()])


def assert_close(
    learner: LearnerProcesses, expected: Learner | LearnerProcesses, folder: Path
) -> None:
    a, b = (exact_weights(each, folder / "model") for each in (learner, expected))
    assert float((a - b).abs().max()) < 1e-10


def pairs() -> list[TrainingSample]:
    """Return eight pairs of episodes, shuffled.

    A pair has 5 positions of a prompt in common; each episode adds 5 others.
    """
    rng = random.Random(0)
    mask = (*(False,) * 5, *(True,) * 3, False, *(True,) * 2)
    samples = []
    for number in range(8):
        prompt = (number, *(rng.randrange(32) for _ in range(4)))
        samples += [
            TrainingSample(
                token_ids=(*prompt, first, *(rng.randrange(32) for _ in range(5))),
                action_mask=mask,
                behavior_logprobs=tuple(-4.0 * rng.random() if bit else 0.0 for bit in mask),
                advantages=(advantage,) * 2,
                staleness=((number, 0), (0, 2)),
            )
            for first, advantage in ((20, 1.0 + rng.random()), (21, -1.0 - rng.random()))
        ]
    rng.shuffle(samples)
    return samples


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, alpha=4)], ids=["all", "lora"])
def test_the_engine_reads_what_the_ranks_trained(
    lora: LoraSettings | None,
    tied: bool,
    two: LearnerProcesses,
    random_samples: MakeSamples,
    tmp_path: Path,
) -> None:
    samples, settings = random_samples(6), settings_of(2, 40)
    here = Learner(load_tiny(lora, tied=tied)[0], settings_of(1, 40), CONTEXT)
    two.open(partial(load_tiny, lora, tied=tied), settings, CONTEXT)
    first = two.folder
    save_for_serving(here.model, tmp_path / "first", "bfloat16")
    assert_equal(weights_in(first), weights_in(tmp_path / "first"))
    here.update(samples)
    two.update(samples)
    two.write()
    assert two.folder == first
    save_for_serving(here.model, tmp_path / "second", "bfloat16")
    # The ranks' sums differ in the last bits, which may round to the next bfloat16.
    assert_equal(weights_in(first), weights_in(tmp_path / "second"), most=2e-3)
    assert {"config.json", "tokenizer.json"} <= {path.name for path in first.iterdir()}
    save_policy(here.model, load_tiny()[1], tmp_path / "here")
    assert_equal(written(two, tmp_path / "there"), weights_in(tmp_path / "here"), most=1e-6)
    if lora is not None:
        assert_equal(
            load_file(tmp_path / "there/adapter/adapter_model.safetensors"),
            load_file(tmp_path / "here/adapter/adapter_model.safetensors"),
            most=1e-6,
        )
    two.open(load_tiny, settings, CONTEXT)
    assert two.folder != first
    assert not first.exists()


def test_ranks_that_compute_in_bfloat16_learn_as_autocast_does(
    two: LearnerProcesses, random_samples: MakeSamples
) -> None:
    # With 10 positions each episode is alone, in one process and in two: products of other shapes
    # would round otherwise. Norms in bfloat16 would change the third gradient by 17 %.
    samples = random_samples(6)
    here, there, in_float32 = (settings_of(n, 10, dtype=t) for n, t in _KINDS)
    learner, exact = (Learner(load_tiny()[0], s, CONTEXT) for s in (here, in_float32))
    two.open(load_tiny, there, CONTEXT)
    apart = []
    for _ in range(3):
        expected, got, other = (each.update(samples) for each in (learner, two, exact))
        for name in ("loss", "grad_norm", "entropy", "mismatch_abs_mean"):
            assert got[name] == pytest.approx(expected[name], rel=1e-4), name
        apart.append(abs(got["grad_norm"] / other["grad_norm"] - 1.0))
    assert max(apart) > 1e-2, "they compute in float32"


@pytest.mark.parametrize(
    "values",
    [
        {"objective": "gmpo", "power": 1.0, "power_end": -1.0, "off_policy_mask": 0.5},
        {"objective": "dapo", "clip_c": 2.0, "entropy_bonus": 0.01},
    ],
    ids=str,
)
def test_micro_batches_and_ranks_do_not_change_the_result(
    values: dict[str, Any], two: LearnerProcesses, tmp_path: Path
) -> None:
    samples = pairs()
    whole: tuple[dict[str, float], Tensor] | None = None
    for ranks in (1, 2):
        # A pair has 15 positions, so all have 120; with 10, each episode is alone.
        for max_tokens, count in ((120, 1), (60, 2), (30, 4), (15, 8), (10, 16)):
            case = f"{count} micro-batches, {ranks} ranks"
            plan = StepPlan.of(samples, range(16), max_tokens=max_tokens, ranks=ranks)
            # Two ranks have one each at least.
            assert [plan.passes_of(rank) for rank in range(ranks)] == [
                max(count // ranks, 1)
            ] * ranks, case
            settings = settings_of(
                ranks, max_tokens, optimizer_steps=1, old_logprobs="sampler", **values
            )
            learner = learner_of(ranks, settings, two)
            metrics, weights = learner.update(samples), exact_weights(learner, tmp_path)
            if whole is None:
                whole = metrics, weights
                assert metrics["grad_norm"] > 1e-2
                assert float((weights - weights_of(load_exact()[0])).abs().max()) > 5e-4
            assert metrics["shared_prefixes"] == pytest.approx(0.25 if max_tokens >= 15 else 0.0), (
                case
            )
            for name in set(metrics) - NOT_COMPARED:
                assert metrics[name] == pytest.approx(whole[0][name], rel=0, abs=1e-10), (
                    name,
                    case,
                )
            assert float((weights - whole[1]).abs().max()) < 1e-10, case


def test_shared_prefixes_are_counted_in_all_ranks(two: LearnerProcesses) -> None:
    # The first rank gets the last one, alone; the others share 3 of their 4 positions. 3 of 14 are
    # computed for both.
    samples = [
        TrainingSample(
            token_ids=ids,
            action_mask=(False, *(True,) * (len(ids) - 1)),
            behavior_logprobs=(0.0,) * len(ids),
            advantages=(1.0,),
        )
        for ids in ((1, 5, 6, 7, 8), (1, 5, 6, 9, 8), (2, 3, 4, 5, 6, 7, 8))
    ]
    settings = settings_of(2, 100, optimizer_steps=1, old_logprobs="sampler")
    two.open(load_tiny, settings, CONTEXT)
    assert two.update(samples)["shared_prefixes"] == pytest.approx(3 / 14)


@pytest.mark.parametrize("parts", [1, 2])
def test_two_ranks_learn_the_same_as_one(
    parts: int, random_samples: MakeSamples, two: LearnerProcesses, tmp_path: Path
) -> None:
    samples = random_samples(9, parts=parts)
    here = learner_of(1, settings_of(1, 10_000, entropy_bonus=0.01), two)
    learner_of(2, settings_of(2, 25, entropy_bonus=0.01), two)
    for _ in range(2):
        expected, got = here.update(samples), two.update(samples)
        for name in set(expected) - NOT_COMPARED:
            assert got[name] == pytest.approx(expected[name], abs=1e-9), name
        assert_close(two, here, tmp_path)
    assert here.supervised_step(samples)["loss"] == pytest.approx(
        two.supervised_step(samples)["loss"], abs=1e-10
    )
    assert_close(two, here, tmp_path)


def test_a_learner_of_two_ranks_resumes_in_one(
    tmp_path: Path, random_samples: MakeSamples, two: LearnerProcesses
) -> None:
    samples = random_samples(8)
    learner_of(2, settings_of(2, 40), two)
    two.update(samples)
    two.save(tmp_path / "learner")
    expected = two.update(samples)
    here = Learner(load_exact()[0], settings_of(1, 10_000), LearnerContext(total_steps=10, seed=99))
    here.load(tmp_path / "learner")
    got = here.update(samples)
    for name in set(expected) - NOT_COMPARED:
        assert got[name] == pytest.approx(expected[name], abs=1e-9), name
    assert_close(two, here, tmp_path / "weights")


@pytest.mark.slow
def test_an_error_in_one_rank_ends_the_call(random_samples: MakeSamples) -> None:
    samples = [
        TrainingSample(
            token_ids=s.token_ids,
            action_mask=s.action_mask,
            behavior_logprobs=tuple(float("-inf") if bit else 0.0 for bit in s.action_mask),
            advantages=(-1.0,) * s.turns,
        )
        for s in random_samples(1)
    ]
    settings = settings_of(2, 40, optimizer_steps=1, old_logprobs="sampler")
    with LearnerProcesses(settings) as learner:
        learner.open(load_tiny, settings, CONTEXT)
        with pytest.raises(FloatingPointError, match="loss of optimizer step 1 is inf"):
            learner.update(samples)


def test_two_ranks_keep_the_records_of_one(two: LearnerProcesses) -> None:
    samples = make_samples(6, parts=2)
    context = replace(CONTEXT, keep_token_records=True)
    kept = []
    # Of 12 positions each: the parts of an episode do not fit into one micro-batch.
    for ranks in (1, 2):
        settings = settings_of(ranks, 12, learning_rate=3e-2, warmup_steps=0)
        if ranks == 1:
            learner: Learner | LearnerProcesses = Learner(load_exact()[0], settings, context)
        else:
            two.open(load_exact, settings, context)
            learner = two
        learner.update(samples)
        kept.append(learner.token_records())
    of_one, of_two = kept
    assert of_one.keys() == of_two.keys()
    assert len(of_one["sample"]) > 20
    for name, values in of_one.items():
        torch.testing.assert_close(of_two[name], values, rtol=0, atol=1e-9, msg=name)
