"""What holds for any episodes, whatever their tokens, in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent_rl.objective.policy_loss import AgentTokens, Clipped, policy_loss, shares
from agent_rl.objective.presets import PRESETS, Objective

FAMILY: dict[str, Objective] = {
    **{str(name): preset for name, preset in PRESETS.items()},
    "gmpo_by_turn": replace(PRESETS["gmpo"], aggregation="turn"),
    "gmpo_asymmetric": replace(PRESETS["gmpo"], epsilon=0.1, epsilon_high=0.7),
    "gmpo_over_tokens": replace(PRESETS["gmpo"], normalisation="token"),
    "dapo_by_turn": replace(PRESETS["dapo"], aggregation="turn"),
    "gspo_wide": replace(PRESETS["gspo"], epsilon=0.2, epsilon_high=0.3),
    "gmpo_power_2": replace(PRESETS["gmpo"], power=2.0),
    "gmpo_by_turn_power_-1": replace(PRESETS["gmpo"], aggregation="turn", power=-1.0),
    "holder_power_-1": replace(PRESETS["holder"], power=-1.0),
    "grpo_dual": replace(PRESETS["grpo"], clip_c=3.0),
}
EVERY = pytest.mark.parametrize(
    "objective", [pytest.param(value, id=name) for name, value in FAMILY.items()]
)
LENGTH = 7


def examples(count: int) -> settings:
    """Return settings for so many examples, the same in each run."""
    return settings(derandomize=True, database=None, deadline=None, max_examples=count)


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A random episode."""

    advantage: float
    """The same for all its turns."""
    turns: list[list[tuple[float, float]]]
    """For each turn its tokens: log-ratio and log importance weight."""

    @property
    def size(self) -> int:
        return sum(map(len, self.turns))


TOKENS = st.tuples(st.floats(-2.0, 2.0), st.floats(-0.5, 0.5))
TURNS = st.lists(st.lists(TOKENS, min_size=1, max_size=3), min_size=1, max_size=3)
ADVANTAGES = st.one_of(st.just(0.0), st.floats(0.125, 3.0), st.floats(-3.0, -0.125))
EPISODES = st.lists(st.builds(Episode, advantage=ADVANTAGES, turns=TURNS), min_size=1, max_size=4)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The tokens that went in, the loss, and its gradient for each token."""

    tokens: AgentTokens
    loss: float
    grad: Tensor
    clipped: Clipped

    def of_episodes(self, values_N: Tensor) -> list[Tensor]:
        """Values of the tokens, episode by episode."""
        return [
            values_N[self.tokens.episode == i] for i in range(int(self.tokens.episode.max()) + 1)
        ]


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def run(
    objective: Objective, episodes: Sequence[Episode], *, step: Sequence[Episode] | None = None
) -> Outcome:
    """The objective on `episodes`, which are some or all of an optimizer step's; old log-probs are
    -1.
    """
    step = episodes if step is None else step
    turns = [(number, turn) for number, episode in enumerate(episodes) for turn in episode.turns]
    flat = [token for _, turn in turns for token in turn]
    turn_N = torch.tensor([k for k, (_, turn) in enumerate(turns) for _ in turn])
    episode_N = torch.tensor([number for number, turn in turns for _ in turn])
    by_turn = objective.aggregation == "turn"
    share = shares(
        objective.normalisation,
        turn_N if by_turn else episode_N,
        units=sum(len(e.turns) for e in step) if by_turn else len(step),
        tokens=sum(e.size for e in step),
        episodes=len(step),
        length=LENGTH,
    )
    logp_new = (tensor([x for x, _ in flat]) - 1.0).requires_grad_()
    tokens = AgentTokens(
        logp_new=logp_new,
        logp_old=torch.full_like(share, -1.0),
        advantage=tensor([e.advantage for e in episodes])[episode_N],
        share=share,
        turn=turn_N,
        episode=episode_N,
        log_weight=tensor([weight for _, weight in flat]),
    )
    loss, clipped = policy_loss(objective, tokens)
    (grad,) = torch.autograd.grad(loss, logp_new)
    return Outcome(tokens=tokens, loss=loss.item(), grad=grad, clipped=clipped)


def power_mean(values: Tensor, power: float) -> Tensor:
    """The mean as it is defined, without logarithms."""
    if power == 0.0:
        return values.prod() ** (1 / len(values))
    return values.pow(power).mean() ** (1 / power)


def published(objective: Objective, tokens: AgentTokens) -> Tensor:
    """The loss as the papers write it, unit by unit: with ratios, all bounds, and the minimum of
    two terms.
    """
    low, high = 1.0 - objective.epsilon, 1.0 + objective.epsilon_high
    if objective.clip == "log":
        low, high = math.exp(-objective.epsilon), math.exp(objective.epsilon_high)
    if objective.clip == "none":
        low, high = 0.0, math.inf
    total = torch.zeros((), dtype=torch.float64)
    units = tokens.turn if objective.aggregation == "turn" else tokens.episode
    for number in range(int(units.max()) + 1):
        at = units == number
        A, share, weight = tokens.advantage[at][0], tokens.share[at], tokens.log_weight[at].exp()
        ratio = (tokens.logp_new[at] - tokens.logp_old[at]).exp()
        if objective.clip == "weight":
            total = (
                total
                - (share * ratio.clamp(low, high).detach() * weight * A * tokens.logp_new[at]).sum()
            )
            continue
        if objective.aggregation == "sequence":
            ratio = power_mean(ratio, objective.power)
        # The ratio that the minimum of the two terms leaves.
        ratio = (
            torch.minimum(ratio * A, ratio.clamp(low, high) * A) / A
            if A != 0
            else torch.ones_like(ratio)
        )
        if objective.clip_c and A < 0:
            ratio = ratio.clamp(max=objective.clip_c)
        if objective.aggregation in ("turn", "episode"):
            ratio = power_mean(ratio * weight, objective.power)
            weight = torch.ones_like(weight)
        if objective.aggregation == "sequence":
            weight = power_mean(weight, objective.power)
        total = total - (share * A * ratio * weight).sum()
    return total


@EVERY
@examples(20)
@given(episodes=EPISODES)
def test_it_is_the_published_formula(objective: Objective, episodes: list[Episode]) -> None:
    got = run(objective, episodes)
    loss = published(objective, got.tokens)
    grad = torch.zeros_like(got.grad)
    if loss.requires_grad:
        (grad,) = torch.autograd.grad(loss, got.tokens.logp_new)
    assert got.loss == pytest.approx(loss.item(), abs=1e-10)
    torch.testing.assert_close(got.grad, grad, rtol=0, atol=1e-10)


@EVERY
@examples(20)
@given(data=st.data(), episodes=EPISODES)
def test_any_split_of_the_episodes_adds_up(
    objective: Objective, data: st.DataObject, episodes: list[Episode]
) -> None:
    groups = data.draw(st.lists(st.integers(0, 2), min_size=len(episodes), max_size=len(episodes)))
    whole = run(objective, episodes)
    loss, grads = 0.0, dict[int, Tensor]()
    for group in set(groups):
        chosen = [i for i, of in enumerate(groups) if of == group]
        part = run(objective, [episodes[i] for i in chosen], step=episodes)
        loss += part.loss
        grads.update(zip(chosen, part.of_episodes(part.grad), strict=True))
    assert loss == pytest.approx(whole.loss, abs=1e-10)
    for i, grad in enumerate(whole.of_episodes(whole.grad)):
        torch.testing.assert_close(grads[i], grad, rtol=0, atol=1e-10)


@EVERY
@examples(10)
@given(data=st.data(), episodes=EPISODES)
def test_the_order_of_the_episodes_does_not_matter(
    objective: Objective, data: st.DataObject, episodes: list[Episode]
) -> None:
    order = data.draw(st.permutations(range(len(episodes))))
    whole, mixed = run(objective, episodes), run(objective, [episodes[i] for i in order])
    assert mixed.loss == pytest.approx(whole.loss, abs=1e-10)
    for i, grad in zip(order, mixed.of_episodes(mixed.grad), strict=True):
        torch.testing.assert_close(grad, whole.of_episodes(whole.grad)[i], rtol=0, atol=1e-10)


@EVERY
@examples(15)
@given(episodes=EPISODES)
def test_exactly_the_clipped_tokens_have_no_gradient(
    objective: Objective, episodes: list[Episode]
) -> None:
    got = run(objective, episodes)
    low, high, dual = got.clipped.low, got.clipped.high, got.clipped.dual
    A = got.tokens.advantage
    assert torch.equal(low | high | dual, (got.grad == 0.0) & (A != 0.0))
    assert not ((low | dual) & ~(A < 0)).any()
    assert not (high & ~(A > 0)).any()
    if objective.aggregation == "sequence":
        for flags in got.of_episodes(low | high):
            assert flags.all() or not flags.any()


@EVERY
@examples(10)
@given(episodes=EPISODES, factor=st.floats(0.125, 8.0))
def test_the_loss_is_proportional_to_the_advantages(
    objective: Objective, episodes: list[Episode], factor: float
) -> None:
    got = run(objective, episodes)
    scaled = run(
        objective, [replace(episode, advantage=factor * episode.advantage) for episode in episodes]
    )
    assert scaled.loss == pytest.approx(factor * got.loss, abs=1e-10)
    torch.testing.assert_close(scaled.grad, factor * got.grad, rtol=0, atol=1e-10)


@EVERY
@examples(15)
@given(episodes=EPISODES, wild=st.floats(), weight=st.floats(-2000.0, 2000.0))
def test_a_token_of_an_episode_with_advantage_zero_may_be_anything(
    objective: Objective, episodes: list[Episode], wild: float, weight: float
) -> None:
    calm = Episode(advantage=0.0, turns=[[(0.0, 0.0), (0.5, 0.0)]])
    got = run(objective, [*episodes, replace(calm, turns=[[(wild, weight), (0.5, 0.0)]])])
    without = run(objective, [*episodes, calm])
    assert got.loss == without.loss
    assert math.isfinite(got.loss)
    assert torch.equal(got.grad, without.grad)
    assert got.grad[-2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["gmpo", "gmpo_asymmetric", "gmpo_over_tokens", "gmpo_by_turn"])
@examples(20)
@given(episodes=EPISODES)
def test_gmpos_gradient_is_the_closed_form(name: str, episodes: list[Episode]) -> None:
    """-A w share at the tokens that are not clipped, w the geometric mean of the clipped ratios and
    the weights.
    """
    objective = FAMILY[name]
    got = run(objective, episodes)
    x = (got.tokens.logp_new - got.tokens.logp_old).tolist()
    units = (got.tokens.turn if objective.aggregation == "turn" else got.tokens.episode).tolist()
    for i, (unit, A) in enumerate(zip(units, got.tokens.advantage.tolist(), strict=True)):
        members = [k for k, other in enumerate(units) if other == unit]
        clipped = [
            min(value, objective.epsilon_high) if A > 0 else max(value, -objective.epsilon)
            for value in x
        ]
        logs = [clipped[k] + float(got.tokens.log_weight[k]) for k in members]
        weight = math.exp(sum(logs) / len(logs))
        expected = -A * weight * float(got.tokens.share[i]) if clipped[i] == x[i] else 0.0
        assert float(got.grad[i]) == pytest.approx(expected, abs=1e-10)
