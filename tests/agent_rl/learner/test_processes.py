"""One learner in two real processes against one in this one."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.plan import StepPlan
from agent_rl.learner.processes import LearnerRank, Learning, RankedLearner, open_learner
from agent_rl.learner.samples import TrainingSample
from rollouts.processes.ray_processes import call_all
from tests.builders.tiny_learner import MakeModel, MakeSamples, weights_of

pytestmark = pytest.mark.process

OpenTwo = Callable[[LlamaForCausalLM, LearnerSettings], Learning]
# What depends on the machine, or on how the samples are split.
NOT_COMPARED = {
    "seconds",
    "tokens_per_second",
    "model_flop_utilisation",
    "peak_memory_gib",
    "shared_prefixes",
}


@pytest.fixture(scope="module")
def open_two() -> Iterator[OpenTwo]:
    """Opens a learner of two ranks. Starting processes takes seconds: a later call takes those of
    the one before.
    """

    def reset_model(rank: LearnerRank, model: LlamaForCausalLM, settings: LearnerSettings) -> None:
        assert rank._ranks is not None
        rank._learner = Learner(model, settings, LearnerContext(total_steps=10), ranks=rank._ranks)

    opened: list[RankedLearner] = []

    def call(model: LlamaForCausalLM, settings: LearnerSettings) -> Learning:
        if not opened:
            learner = open_learner(model, settings, LearnerContext(total_steps=10))
            assert isinstance(learner, RankedLearner)
            opened.append(learner)
        else:
            opened[0]._model = model
            call_all(opened[0]._processes, "__ray_call__", reset_model, model, settings)
        return opened[0]

    yield call
    for learner in opened:
        learner.close()


def settings_of(ranks: int, micro_batch_tokens: int, **values: object) -> LearnerSettings:
    return LearnerSettings.model_validate(
        {
            "device": "cpu",
            "learning_rate": 1e-3,
            "optimizer_steps": 2,
            "ranks": ranks,
            "micro_batch_tokens": micro_batch_tokens,
            "threads": 1,
            **values,
        }
    )


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


@pytest.mark.parametrize(
    "values", [{"objective": "gmpo"}, {"objective": "dapo", "entropy_bonus": 0.01}], ids=str
)
def test_micro_batches_and_ranks_do_not_change_the_result(
    values: dict[str, Any], tiny_model: MakeModel, open_two: OpenTwo
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
            model = tiny_model()
            settings = settings_of(
                ranks, max_tokens, optimizer_steps=1, old_logprobs="sampler", **values
            )
            learner = (
                open_learner(model, settings, LearnerContext(total_steps=10))
                if ranks == 1
                else open_two(model, settings)
            )
            metrics = learner.update(samples)
            weights = weights_of(model)
            if whole is None:
                whole = metrics, weights
                assert metrics["grad_norm"] > 1e-2
                assert float((weights - weights_of(tiny_model())).abs().max()) > 5e-4
            assert metrics["shared_prefixes"] == pytest.approx(0.25 if max_tokens >= 15 else 0.0), (
                case
            )
            for name in set(metrics) - NOT_COMPARED:
                assert metrics[name] == pytest.approx(whole[0][name], rel=0, abs=1e-10), (
                    name,
                    case,
                )
            assert float((weights - whole[1]).abs().max()) < 1e-10, case


def test_shared_prefixes_are_counted_in_all_ranks(tiny_model: MakeModel, open_two: OpenTwo) -> None:
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
    assert open_two(tiny_model(), settings).update(samples)["shared_prefixes"] == pytest.approx(
        3 / 14
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_two_ranks_learn_the_same_as_one(
    parts: int, tiny_model: MakeModel, random_samples: MakeSamples, open_two: OpenTwo
) -> None:
    samples = random_samples(9, parts=parts)
    alone, shared = tiny_model(), tiny_model()
    one = open_learner(
        alone, settings_of(1, 10_000, entropy_bonus=0.01), LearnerContext(total_steps=10)
    )
    two = open_two(shared, settings_of(2, 25, entropy_bonus=0.01))
    for _ in range(2):
        expected, got = one.update(samples), two.update(samples)
        for name in set(expected) - NOT_COMPARED:
            assert got[name] == pytest.approx(expected[name], abs=1e-9), name
        torch.testing.assert_close(weights_of(shared), weights_of(alone), rtol=0, atol=1e-10)
    assert one.supervised_step(samples)["loss"] == pytest.approx(
        two.supervised_step(samples)["loss"], abs=1e-10
    )
    two.fetch_weights()
    torch.testing.assert_close(weights_of(shared), weights_of(alone), rtol=0, atol=1e-10)


def test_a_learner_of_two_ranks_resumes_in_one(
    tmp_path: Path, tiny_model: MakeModel, random_samples: MakeSamples, open_two: OpenTwo
) -> None:
    samples = random_samples(8)
    shared, resumed = tiny_model(), tiny_model()
    two = open_two(shared, settings_of(2, 40))
    two.update(samples)
    two.save(tmp_path / "learner")
    expected = two.update(samples)
    one = open_learner(resumed, settings_of(1, 10_000), LearnerContext(total_steps=10, seed=99))
    one.load(tmp_path / "learner")
    got = one.update(samples)
    for name in set(expected) - NOT_COMPARED:
        assert got[name] == pytest.approx(expected[name], abs=1e-9), name
    torch.testing.assert_close(weights_of(resumed), weights_of(shared), rtol=0, atol=1e-10)


def test_an_error_in_one_rank_ends_the_call(
    tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
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
    two = open_learner(tiny_model(), settings, LearnerContext(total_steps=10))
    try:
        with pytest.raises(FloatingPointError, match="loss of optimizer step 1 is inf"):
            two.update(samples)
    finally:
        two.close()
