"""Training samples: the tokens, mask and advantages of an episode, cut out of its trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from agent_rl.config.learner import LearnerSettings
from agent_rl.objective.advantages import (
    episode_advantages,
    turn_group_advantages,
    turn_score_advantages,
)
from agent_rl.objective.presets import AdvantageName
from rollouts.types import Part, Trajectory, TrajectoryGroup, Turn

ALONE = -1
"""`TrainingSample.episode` of a sample that is a whole episode."""
Runs = tuple[tuple[int, int], ...]
"""Runs of equal values: pairs of the value and the index of its first token, which starts at 0."""


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """Token ids for the learner, with a mask of the tokens to train.

    Usually a sample is a whole episode. With a history that forgets, an episode is a sample for
    each of its parts, with the prompt that the policy saw; they share the number `episode`.
    """

    token_ids: tuple[int, ...]
    """All tokens, at least two; the first one is never the agent's."""
    action_mask: tuple[bool, ...]
    """True at the agent's tokens. A turn is an unbroken run of True: a thought that was cut off and
    the action after it are two."""
    behavior_logprobs: tuple[float, ...]
    """The sampler's log-probs, in nats; 0 where the mask is False, and in supervised samples."""
    advantages: tuple[float, ...]
    """One advantage for each turn of the sample."""
    episode: int = ALONE
    """The number, from 0, that the parts of one episode share; `ALONE` for a whole episode."""
    staleness: Runs = ((0, 0),)
    """How many versions older than the learner's the weights were that sampled the agent's tokens.
    Runs over these tokens alone: ((2, 0), (1, 5)) is 2 for the first five, and 1 for the others."""

    def __post_init__(self) -> None:
        assert len(self.token_ids) >= 2, "a sample needs at least a context token and a target"
        lengths = (len(self.token_ids), len(self.action_mask), len(self.behavior_logprobs))
        assert len(set(lengths)) == 1, lengths
        assert self.episode >= ALONE, self.episode
        assert not self.action_mask[0], "nothing predicts the first token, so it cannot be trained"
        assert len(self.advantages) == self.turns, (len(self.advantages), self.turns)
        starts = [start for _, start in self.staleness]
        assert starts[:1] == [0], self.staleness
        assert starts == sorted(set(starts)), self.staleness
        assert starts[-1] < max(self.agent_tokens, 1), (self.staleness, self.agent_tokens)
        assert min(behind for behind, _ in self.staleness) >= 0, "sampled by weights to come"

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The model's input: all tokens but the last, which predicts nothing."""
        return self.token_ids[:-1]

    @cached_property
    def agent_tokens(self) -> int:
        """The number of trained tokens."""
        return sum(self.action_mask)

    @cached_property
    def turn_ids(self) -> tuple[int, ...]:
        """For each token the number of its turn, from 0; -1 for tokens that are not the agent's."""
        ids, turn = [], -1
        for i, is_action in enumerate(self.action_mask):
            if is_action and not self.action_mask[i - 1]:
                turn += 1
            ids.append(turn if is_action else -1)
        return tuple(ids)

    @cached_property
    def turns(self) -> int:
        """The number of turns that have agent tokens."""
        return max(self.turn_ids) + 1

    @property
    def token_staleness(self) -> list[int]:
        """The staleness of each of the agent's tokens."""
        ends = [start for _, start in self.staleness[1:]] + [self.agent_tokens]
        values: list[int] = []
        for (behind, start), end in zip(self.staleness, ends, strict=True):
            values += [behind] * (end - start)
        return values

    @cached_property
    def has_gradient(self) -> bool:
        """Whether some advantage is not 0; without one a policy objective has no gradient here."""
        return any(advantage != 0.0 for advantage in self.advantages)


def samples_from_group(
    group: TrajectoryGroup,
    advantage: AdvantageName = "group_std",
    *,
    turn_discount: float = 0.95,
    turn_advantage_weight: float = 1.0,
    invalid_turn_penalty: float = 0.0,
    version: int | None = None,
    first_sample: int = 0,
) -> list[TrainingSample]:
    """Return a group's samples with their advantages.

    An episode gives a sample for each of its parts, and none if it does not train
    (`Trajectory.trains`).

    Args:
        group: episodes of one task.
        advantage: how returns are compared; see `agent_rl.objective.advantages`.
        turn_discount: the discount per turn, for `turn_groups` only. The default is the paper's.
        turn_advantage_weight: the weight of a turn's own advantage, which `turn_groups` adds to the
            episode's: GiGPO (arXiv 2505.10978, equation 8). The default is the paper's.
        invalid_turn_penalty: what an invalid action takes from the score of its own turn, for
            `turn_weighted` only. The return stays as it is.
        version: of the learner's weights, at least that of any token; None says that they sampled
            all tokens.
        first_sample: the place of the first one among all samples of the step. An episode of
            several parts gets the place of its first part as its number.
    """
    trajectories = group.trajectories
    trains = [trajectory.trains for trajectory in trajectories]
    if invalid_turn_penalty:
        assert advantage == "turn_weighted", advantage
        per_turn = turn_score_advantages(
            [turn_scores(trajectory, invalid_turn_penalty) for trajectory in trajectories],
            [[turn.kind == "action" for turn in trajectory.turns] for trajectory in trajectories],
            trains,
        )
    else:
        per_turn = _of_episodes(group, advantage, trains)
    if advantage == "turn_groups":
        added = _of_turn_groups(group, trains, turn_discount)
        for episode, own in zip(per_turn, added, strict=True):
            for turn, value in enumerate(own):
                episode[turn] += turn_advantage_weight * value
    samples: list[TrainingSample] = []
    for trajectory, of_turns in zip(trajectories, per_turn, strict=True):
        if trajectory.trains:
            number = first_sample + len(samples)
            samples += _samples_of_parts(trajectory.parts, of_turns, number, version)
    return samples


def group_samples(
    group: TrajectoryGroup,
    settings: LearnerSettings,
    *,
    version: int | None = None,
    first_sample: int = 0,
) -> list[TrainingSample]:
    """Return a group's samples, with advantages as the settings compute them.

    Args:
        group: episodes of one task.
        settings: of the learner.
        version: as in `samples_from_group`, like `first_sample`.
        first_sample: the place of the first one among all samples of the step.
    """
    # Only keys that the config sets: the others keep the advantage's defaults.
    options = {}
    for key in ("turn_discount", "turn_advantage_weight", "invalid_turn_penalty"):
        value = getattr(settings, key)
        if value is not None:
            options[key] = value
    return samples_from_group(
        group,
        settings.chosen_objective.advantage,
        version=version,
        first_sample=first_sample,
        **options,
    )


def turn_advantages(
    group: TrajectoryGroup, settings: LearnerSettings
) -> list[tuple[float, ...] | None]:
    """Return for each episode the advantages of its turns; None for one that does not train."""
    samples = iter(group_samples(group, settings))
    of_episodes: list[tuple[float, ...] | None] = []
    for trajectory in group.trajectories:
        if not trajectory.trains:
            of_episodes.append(None)
            continue
        of_turns: list[float] = []
        for _ in trajectory.parts:
            of_turns += next(samples).advantages
        of_episodes.append(tuple(of_turns))
    return of_episodes


def turn_scores(trajectory: Trajectory, invalid_turn_penalty: float) -> list[float]:
    """Return the score of each turn: the return, less the penalty if the turn's action is invalid.

    A thought is a part of the answer with the action after it, and shares its score. A summary is
    an answer of its own, which no penalty meets.
    """
    scores: list[float] = []
    score = trajectory.episode_return
    for turn in reversed(trajectory.turns):
        if turn.kind != "thought":
            score = trajectory.episode_return - (0.0 if turn.admissible else invalid_turn_penalty)
        scores.append(score)
    return scores[::-1]


def _of_episodes(
    group: TrajectoryGroup, advantage: AdvantageName, trains: Sequence[bool]
) -> list[list[float]]:
    """Return for each episode and turn the advantage of the episode."""
    trajectories = group.trajectories
    actions = [len(trajectory.actions) for trajectory in trajectories]
    returns_G = torch.tensor([t.episode_return for t in trajectories], dtype=torch.float64)
    of_episodes = episode_advantages(advantage, returns_G, torch.tensor(trains), actions)
    return [
        [a] * len(episode.turns)
        for a, episode in zip(of_episodes.tolist(), trajectories, strict=True)
    ]


def _samples_of_parts(
    parts: Sequence[Part], advantages: Sequence[float], number: int, version: int | None
) -> list[TrainingSample]:
    """Return a sample for each part of the episode with a number."""
    samples = []
    begin = 0
    for part in parts:
        end = begin + len(part.turns)
        sample = TrainingSample(
            token_ids=part.token_ids,
            action_mask=part.action_mask,
            behavior_logprobs=part.behavior_logprobs,
            advantages=tuple(advantages[begin:end]),
            episode=number if len(parts) > 1 else ALONE,
            staleness=_staleness(part.turns, version),
        )
        samples.append(sample)
        begin = end
    return samples


def episodes_of(samples: Sequence[TrainingSample]) -> list[list[int]]:
    """Return the indices of each episode's samples; episodes are ordered by their first sample."""
    parts: dict[int, list[int]] = {}
    for i, sample in enumerate(samples):
        # A negative key, different for each sample, keeps whole episodes apart from the numbered.
        key = -1 - i if sample.episode == ALONE else sample.episode
        parts.setdefault(key, []).append(i)
    return list(parts.values())


def groups_of(samples: Sequence[TrainingSample]) -> list[list[list[int]]]:
    """Return the groups of the samples: episodes (lists of indices) with the same first prompt."""
    groups: dict[tuple[int, ...], list[list[int]]] = {}
    for parts in episodes_of(samples):
        first = samples[parts[0]]
        prompt = first.token_ids
        if first.agent_tokens:
            prompt = prompt[: first.action_mask.index(True)]
        groups.setdefault(prompt, []).append(parts)
    return list(groups.values())


def _staleness(turns: Sequence[Turn], version: int | None) -> Runs:
    """Return `TrainingSample.staleness` of a part's turns."""
    if version is None:
        return ((0, 0),)
    runs: list[tuple[int, int]] = []
    tokens_before = 0
    for turn in turns:
        for sampled_by, first in turn.completion.versions:
            behind = version - sampled_by
            if not runs or runs[-1][0] != behind:
                runs.append((behind, tokens_before + first))
        tokens_before += len(turn.completion.token_ids)
    return tuple(runs)


def _of_turn_groups(
    group: TrajectoryGroup, trains: Sequence[bool], discount: float
) -> list[list[float]]:
    """Return for each episode and turn the advantage within the turn's own group.

    A turn that the environment does not see has that of the action that it leads to.
    """
    states, rewards = [], []
    for trajectory in group.trajectories:
        states.append([turn.observation for turn in trajectory.actions])
        rewards.append([turn.reward for turn in trajectory.actions])
    of_actions = turn_group_advantages(states, rewards, trains, discount=discount)
    advantages: list[list[float]] = []
    for trajectory, own in zip(group.trajectories, of_actions, strict=True):
        # A summary may be the last turn, if the context is full after it.
        left = [*own, 0.0]
        advantages.append([])
        for turn in trajectory.turns:
            advantages[-1].append(left[0])
            if turn.kind == "action":
                left.pop(0)
    return advantages


def supervised_sample(ids: Sequence[int], mask: Sequence[bool]) -> TrainingSample:
    """Return a sample of the supervised loss, which uses neither log-probs nor advantages.

    Args:
        ids: the tokens.
        mask: which of them are trained; the first is not, as nothing predicts it.
    """
    # A sample has an advantage for each run of trained tokens.
    runs = sum(trained and not mask[i - 1] for i, trained in enumerate(mask))
    return TrainingSample(
        token_ids=tuple(ids),
        action_mask=tuple(mask),
        behavior_logprobs=(0.0,) * len(ids),
        advantages=(1.0,) * runs,
    )
