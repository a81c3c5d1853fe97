"""The loss: importance weights, left-out tokens, KL, entropy, and episodes cut into parts."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import Batch
from agent_rl.learner.loss import LossRule, ScoredTokens, StepCounts
from agent_rl.learner.metrics import TokenRecord
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.scoring import Scores


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rule(**values: Any) -> LossRule:
    return LossRule(LearnerSettings.model_validate(values), most_agent_tokens=10)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    loss: float
    grad: Tensor
    share: Tensor
    record: TokenRecord


def policy(rule: LossRule, tokens: ScoredTokens, counts: StepCounts) -> Outcome:
    """The policy loss and its gradient with respect to the new log-probs."""
    leaf = replace(tokens, new=tokens.new.detach().requires_grad_())
    loss, share, record = rule.policy(leaf, counts)
    (grad,) = torch.autograd.grad(loss, leaf.new)
    return Outcome(loss=loss.item(), grad=grad, share=share, record=record)


# Two episodes of two tokens on policy, advantages 1 and -1. The learner against the sampler: 0.3,
# -0.1 and 0.9, 0.2.
MISMATCH = [0.3, -0.1, 0.9, 0.2]
TOKENS = ScoredTokens(
    new=tensor([-1.0] * 4),
    old=tensor([-1.0] * 4),
    sampler=tensor([-1.0 - d for d in MISMATCH]),
    reference=tensor([-1.0] * 4),
    entropy=tensor([0.5] * 4),
    advantage=tensor([1.0, 1.0, -1.0, -1.0]),
    turn=torch.tensor([0, 0, 1, 1]),
    episode=torch.tensor([0, 0, 1, 1]),
    staleness=torch.tensor([0, 0, 0, 0]),
)
COUNTS = StepCounts(tokens=4, episodes=2, turns=2)


@pytest.mark.parametrize(
    ("importance", "cap", "weights"),
    [
        ("none", None, [1.0, 1.0, 1.0, 1.0]),
        ("token", 0.0, [math.exp(0.3), math.exp(-0.1), math.exp(0.9), math.exp(0.2)]),
        ("token", None, [math.exp(0.3), math.exp(-0.1), 2.0, math.exp(0.2)]),
        ("sequence", 0.0, [math.exp(0.2), math.exp(0.2), math.exp(1.1), math.exp(1.1)]),
        ("sequence", 2.0, [math.exp(0.2), math.exp(0.2), 2.0, 2.0]),
        ("geometric", 0.0, [math.exp(0.1), math.exp(0.1), math.exp(0.55), math.exp(0.55)]),
        ("geometric", 1.5, [math.exp(0.1), math.exp(0.1), 1.5, 1.5]),
    ],
)
def test_each_level_of_importance_by_hand(
    importance: str, cap: float | None, weights: list[float]
) -> None:
    """On policy the gradient of a GRPO token is -A share weight, and GMPO's weight is their
    geometric mean.
    """
    grpo = policy(rule(objective="grpo", importance=importance, importance_cap=cap), TOKENS, COUNTS)
    assert grpo.grad.tolist() == pytest.approx(
        [-weights[0] / 4, -weights[1] / 4, weights[2] / 4, weights[3] / 4]
    )
    gmpo = policy(rule(importance=importance, importance_cap=cap), TOKENS, COUNTS)
    first, second = math.sqrt(weights[0] * weights[1]), math.sqrt(weights[2] * weights[3])
    assert gmpo.grad.tolist() == pytest.approx([-first / 4, -first / 4, second / 4, second / 4])
    assert gmpo.loss == pytest.approx((-first + second) / 2)
    assert gmpo.record.mismatch.tolist() == pytest.approx(MISMATCH)


def test_the_samplers_own_log_probs_are_corrected_by_nothing() -> None:
    tokens = replace(TOKENS, old=TOKENS.sampler)
    got = policy(
        rule(objective="reinforce", old_logprobs="sampler", normalisation_length=1), tokens, COUNTS
    )
    assert got.loss == pytest.approx(
        (-math.exp(0.3) - math.exp(-0.1) + math.exp(0.9) + math.exp(0.2)) / 2
    )


@pytest.mark.parametrize("objective", ["gmpo", "grpo", "gspo", "cispo", "dapo", "rloo"])
@pytest.mark.parametrize(
    ("importance", "mask", "left_out"),
    [
        ("token", 2.0, [False, False, True, False]),
        ("token", 1.2, [True, False, True, True]),
        ("sequence", 2.0, [False, False, True, True]),
        ("geometric", 1.6, [False, False, True, True]),
        ("geometric", 1.05, [True, True, True, True]),
    ],
)
def test_left_out_tokens_have_no_gradient_and_no_share(
    objective: str, importance: str, mask: float, left_out: list[bool]
) -> None:
    got = policy(
        rule(objective=objective, importance=importance, importance_mask=mask), TOKENS, COUNTS
    )
    assert got.record.left_out.tolist() == left_out
    assert [bool(value) for value in got.grad == 0.0] == left_out
    assert [bool(value) for value in got.share == 0.0] == left_out
    assert not (got.record.clipped_low | got.record.clipped_high).any()
    assert got.record.log_ratio.shape == (4,)


def test_an_episode_that_is_left_out_changes_nothing_for_the_others() -> None:
    for objective in ("gmpo", "grpo", "dapo", "dr_grpo"):
        whole = policy(rule(objective=objective, importance="sequence"), TOKENS, COUNTS)
        masked = policy(
            rule(objective=objective, importance="sequence", importance_mask=2.0), TOKENS, COUNTS
        )
        assert masked.grad.tolist() == [*whole.grad[:2].tolist(), 0.0, 0.0]


def test_a_left_out_token_is_neither_in_the_mean_nor_in_its_count() -> None:
    # The second episode has the token of mismatch 0.2 left, and the weight of one of two episodes.
    got = policy(rule(importance_mask=2.0), TOKENS, COUNTS)
    assert got.share.tolist() == pytest.approx([0.25, 0.25, 0.0, 0.5])
    assert got.loss == pytest.approx((-math.exp(0.1) + math.exp(0.2)) / 2)
    assert got.grad[3].item() == pytest.approx(math.exp(0.2) / 2)


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        # log(sampler / new) is -0.3, 0.1, 1.0 and 0.6: means of -0.1 and 0.8. Only the second
        # episode has a negative advantage.
        ({"off_policy_mask": 0.7}, [False, False, True, True]),
        ({"off_policy_mask": 0.9}, [False, False, False, False]),
        ({}, [False, False, False, False]),
        # Its two tokens are two turns.
        ({"off_policy_mask": 0.7, "aggregation": "turn"}, [False, False, True, False]),
    ],
)
@pytest.mark.parametrize("objective", ["gmpo", "grpo", "cispo"])
def test_a_failure_that_became_unlikely_is_left_out(
    objective: str, values: dict[str, Any], left_out: list[bool]
) -> None:
    if objective == "cispo" and "aggregation" in values:
        return  # its weight is a token's
    tokens = replace(TOKENS, new=TOKENS.sampler - tensor([-0.3, 0.1, 1.0, 0.6]))
    tokens = replace(tokens, old=tokens.new, turn=torch.tensor([0, 0, 1, 2]))
    counts = replace(COUNTS, turns=3)
    whole = policy(rule(objective=objective, importance="none"), tokens, counts)
    got = policy(rule(objective=objective, importance="none", **values), tokens, counts)
    assert got.record.left_out.tolist() == left_out
    assert [bool(value) for value in got.grad == 0.0] == left_out
    assert [bool(value) for value in got.share == 0.0] == left_out
    if "aggregation" not in values:
        assert got.grad[:2].tolist() == whole.grad[:2].tolist(), "the divisors stay"


def test_clips_are_recorded_at_their_tokens_if_others_are_left_out() -> None:
    # The third token is left out; the first is clipped above, the last below.
    tokens = replace(TOKENS, new=tensor([0.0, -1.0, 0.0, -2.0]))
    record = policy(rule(importance_mask=2.0), tokens, COUNTS).record
    assert record.log_ratio.tolist() == pytest.approx([1.0, 0.0, 1.0, -1.0])
    assert record.clipped_high.tolist() == [True, False, False, False]
    assert record.clipped_low.tolist() == [False, False, False, True]
    assert not record.clipped_dual.any()
    assert record.left_out.tolist() == [False, False, True, False]


def test_the_record_keeps_the_tokens_values() -> None:
    # r = 2 against the reference: 2 - log 2 - 1. The second episode has two turns, the first one;
    # two numbers are free.
    tokens = replace(TOKENS, reference=TOKENS.new + math.log(2.0), turn=torch.tensor([1, 1, 3, 4]))
    record = policy(rule(beta=0.1), tokens, replace(COUNTS, turns=3)).record
    assert record.kl.tolist() == pytest.approx([1.0 - math.log(2.0)] * 4)
    assert record.entropy.tolist() == [0.5] * 4
    assert record.turns.tolist() == [1, 1, 2, 2]
    assert not any(getattr(record, f.name).requires_grad for f in fields(TokenRecord))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"objective": "grpo"}, [1 / 2 / 3, 1 / 2 / 3, 1 / 2 / 3, 1 / 2 / 3]),
        ({"aggregation": "turn"}, [1 / 2 / 6, 1 / 2 / 6, 1 / 6, 1 / 6]),
        ({"objective": "dapo"}, [1 / 8] * 4),
        ({"objective": "rloo"}, [1 / 10 / 3] * 4),
        ({"objective": "rloo", "normalisation_length": 5}, [1 / 5 / 3] * 4),
        ({"aggregation": "turn", "normalisation": "constant"}, [1 / 10 / 3] * 4),
    ],
)
def test_the_divisors_are_those_of_the_whole_step(
    values: dict[str, Any], expected: list[float]
) -> None:
    tokens = replace(TOKENS, turn=torch.tensor([0, 0, 1, 2]))
    got = policy(
        rule(importance="none", **values), tokens, StepCounts(tokens=8, episodes=3, turns=6)
    )
    assert got.share.tolist() == pytest.approx(expected)


def test_kl_and_entropy_by_hand() -> None:
    new, entropy = tensor([-1.0, -2.0]).requires_grad_(), tensor([0.3, 0.7]).requires_grad_()
    reference, share = tensor([-1.0 + math.log(2.0), -2.0 - math.log(2.0)]), tensor([0.25, 0.5])
    loss = rule(beta=0.1, entropy_bonus=0.01).extras(new, entropy, reference, share)
    kl = 0.25 * (2 - math.log(2) - 1) + 0.5 * (0.5 + math.log(2) - 1)
    assert loss.item() == pytest.approx(0.1 * kl - 0.01 * (0.25 * 0.3 + 0.5 * 0.7))
    slope, slope_entropy = torch.autograd.grad(loss, (new, entropy))
    # d/dlogp of r - log r - 1 is 1 - r.
    assert slope.tolist() == pytest.approx([0.1 * 0.25 * (1 - 2.0), 0.1 * 0.5 * (1 - 0.5)])
    assert slope_entropy.tolist() == pytest.approx([-0.01 * 0.25, -0.01 * 0.5])


def test_without_kl_and_entropy_there_are_no_extras() -> None:
    plain = rule()
    new = tensor([-1.0]).requires_grad_()
    assert plain.extras(new, tensor([1.0]), tensor([-3.0]), tensor([1.0])).item() == 0.0
    assert not plain.every_episode_counts
    assert rule(beta=0.1).every_episode_counts
    assert rule(entropy_bonus=0.1).every_episode_counts


def sample(turns: list[int], advantages: tuple[float, ...], episode: int = -1) -> TrainingSample:
    """A context token and so many agent tokens for each turn; the sampler's log-probs are -1, -1.1,
    ...
    """
    mask = tuple(bit for size in turns for bit in (False, *(True for _ in range(size))))
    return TrainingSample(
        token_ids=tuple(range(len(mask))),
        action_mask=mask,
        behavior_logprobs=tuple(-1.0 - 0.1 * i if bit else 0.0 for i, bit in enumerate(mask)),
        advantages=advantages,
        episode=episode,
        staleness=((len(turns), 0),),
    )


def test_only_units_with_agent_tokens_are_counted() -> None:
    silent = TrainingSample(
        token_ids=(1, 2), action_mask=(False, False), behavior_logprobs=(0.0, 0.0), advantages=()
    )
    samples = [
        sample([2, 1], (1.0, 0.0)),
        silent,
        sample([1], (0.0,)),
        sample([3], (1.0,), episode=4),
        sample([1, 1], (1.0, 1.0), episode=4),
        replace(silent, episode=4),
        replace(silent, episode=5),
    ]
    assert StepCounts.of(samples) == StepCounts(tokens=9, episodes=3, turns=6)


def scored(samples: list[TrainingSample], seed: int) -> ScoredTokens:
    """A batch with scores that depend on a token and its sample's number of turns only, so not on
    the batch.
    """
    batch = Batch.from_samples(samples, dtype=torch.float64)
    turns = tensor([samples[i].turns for i in batch.sample_N.tolist()])
    wave = batch.target_ids_R[batch.row_N] + 5 * turns + seed
    return ScoredTokens.of(
        batch,
        Scores(logprobs_N=-1.0 + wave.sin(), entropy_N=wave.cos().abs(), correct_N=wave > 0),
        old=-1.0 + 0.6 * (1.3 * wave).sin(),
        reference=-1.0 + 0.5 * (0.7 * wave).cos(),
    )


PARTS = [
    sample([2, 1], (-1.5, -1.5), 3),
    sample([3], (-1.5,), 3),
    sample([1, 2, 1], (-1.5,) * 3, 3),
]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"aggregation": "turn"},
        {"normalisation": "token"},
        {"objective": "grpo"},
        {"objective": "gspo", "epsilon": 0.5},
        {"objective": "holder", "epsilon": 0.5},
        {"power": -1.0},
        {"power": 0.5, "aggregation": "turn"},
        {"objective": "grpo", "clip_c": 2.0},
        {"objective": "cispo"},
        {"objective": "rloo", "importance": "sequence"},
        {"importance": "geometric"},
        {"importance_mask": 1.3},
        {"aggregation": "turn", "off_policy_mask": 0.1},
        {"beta": 0.1, "entropy_bonus": 0.1},
    ],
)
@pytest.mark.parametrize("cut", [[[0], [1], [2]], [[0, 1], [2]], [[2], [0, 1]]])
def test_an_episode_whose_parts_are_scored_apart_is_the_episode(
    values: dict[str, Any], cut: list[list[int]]
) -> None:
    counts = StepCounts(tokens=20, episodes=3, turns=9)
    chosen = rule(**values)
    order = [i for pack in cut for i in pack]
    whole = scored([PARTS[i] for i in order], seed=1)
    joined = ScoredTokens.of_one_episode([scored([PARTS[i] for i in pack], seed=1) for pack in cut])
    assert joined.new.is_leaf
    assert joined.new.requires_grad
    expected, got = policy(chosen, whole, counts), policy(chosen, joined, counts)
    assert got.loss == pytest.approx(expected.loss, abs=1e-12)
    assert expected.grad.abs().max() > 1e-3
    torch.testing.assert_close(got.grad, expected.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.share, expected.share, rtol=0, atol=1e-12)
    for field in fields(TokenRecord):
        torch.testing.assert_close(
            getattr(got.record, field.name), getattr(expected.record, field.name)
        )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"aggregation": "turn"},
        {"objective": "gspo", "epsilon": 0.5},
        {"objective": "holder", "epsilon": 0.5},
        {"power": -1.0},
    ],
)
def test_a_part_alone_is_not_the_episode(values: dict[str, Any]) -> None:
    """The test above needs this: the losses of a unit's parts do not add up to the unit's."""
    counts = StepCounts(tokens=20, episodes=3, turns=9)
    whole = policy(rule(**values), scored(PARTS, seed=1), counts)
    apart = sum(policy(rule(**values), scored([part], seed=1), counts).loss for part in PARTS)
    assert (apart == pytest.approx(whole.loss, abs=1e-9)) is (values == {"aggregation": "turn"})


def test_joined_parts_are_one_episode_whatever_their_numbers_were() -> None:
    parts = [
        replace(scored([part], seed=1), episode=torch.full((part.agent_tokens,), k))
        for k, part in enumerate(PARTS)
    ]
    joined = ScoredTokens.of_one_episode(parts)
    assert joined.episode.tolist() == [0] * 10
    assert joined.turn.tolist() == [0, 0, 1, 2, 2, 2, 3, 4, 4, 5]


def test_without_old_log_probs_the_present_ones_are_the_old_ones() -> None:
    batch = Batch.from_samples(PARTS, dtype=torch.float64)
    new = -batch.target_ids_R[batch.row_N].double().requires_grad_()
    scores = Scores(logprobs_N=new, entropy_N=new.detach(), correct_N=new > 0)
    tokens = ScoredTokens.of(batch, scores, old=None, reference=None)
    assert torch.equal(tokens.old, new)
    assert torch.equal(tokens.reference, new)
    assert not tokens.old.requires_grad
    assert not tokens.reference.requires_grad
    assert tokens.new.requires_grad
