"""Objectives as data: the choices behind each name, as published. Light to import: no torch.

An objective answers five questions.

`aggregation`: which unit has a probability ratio (new policy / old policy)?
    token      each token has its own
    turn       the mean of a turn's clipped token ratios
    episode    the mean of an episode's clipped token ratios
    sequence   the mean of an episode's token ratios, clipped as a whole
`power`: which mean? 1 is the arithmetic, 0 the geometric, and -1 the harmonic mean. It may move
    during the run, to `power_end`.
`clip`: what limits a ratio? With epsilon = e and epsilon_high = h:
    log        log-ratios are cut above h (advantage > 0) or below -e (advantage < 0);
               a token that is cut has no gradient
    ratio      the same for ratios, above 1 + h or below 1 - e; this is PPO's minimum of the
               clipped and the plain term
    weight     the ratio is cut to [1 - e, 1 + h] and is a weight, without gradient, of the
               token's log-prob
    none       nothing
    With `clip_c` = c (dual clip), a ratio above c at an advantage < 0 is cut too.
`normalisation`: what is a token's term divided by?
    sequence   the tokens of its episode, times the number of episodes; or the same with
               turns, if `aggregation` is turn
    token      the agent's tokens of the whole optimizer step
    constant   `normalisation_length` tokens, times the number of episodes
`advantage`: what is an episode's return compared with? See `agent_rl.objective.advantages`.
"""

from dataclasses import dataclass, replace
from typing import Literal

Aggregation = Literal["token", "turn", "episode", "sequence"]
Clip = Literal["log", "ratio", "weight", "none"]
Normalisation = Literal["sequence", "token", "constant"]
AdvantageName = Literal["group_std", "group_mean", "leave_one_out", "turn_weighted", "turn_groups"]
ImportanceName = Literal["none", "token", "sequence", "geometric"]
ObjectiveName = Literal[
    "gmpo", "holder", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce"
]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A policy objective; the module's docstring explains the choices."""

    aggregation: Aggregation
    """The unit that a probability ratio belongs to."""
    clip: Clip
    """The kind of clip."""
    normalisation: Normalisation
    """The divisor of a token's term."""
    advantage: AdvantageName = "group_std"
    """The comparison that turns returns into advantages."""
    epsilon: float = 0.0
    """The lower bound of the clip; 0 if there is no clip."""
    epsilon_high: float = 0.0
    """The upper bound of the clip; 0 if there is no clip."""
    clip_c: float = 0.0
    """The largest ratio of a token whose advantage is below 0; 0 is no such bound."""
    power: float = 0.0
    """The power of the mean over a unit's ratios, in the run's first rollout step."""
    power_end: float | None = None
    """The power in the last rollout step; None if it does not change."""
    source: str = ""
    """The publication, and how its settings differ from these."""

    def at(self, done: float) -> "Objective":
        """Return the objective of one rollout step, whose power is fixed.

        Args:
            done: the part of the run before it, from 0 in the first rollout step to 1 in the last.
                The power changes linearly.
        """
        if self.power_end is None:
            return self
        power = self.power + done * (self.power_end - self.power)
        return replace(self, power=power, power_end=None)


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The correction of differences between the sampler's log-probs and the learner's.

    Both compute the same policy, but not with the same arithmetic. A token's importance weight is
    the ratio learner / sampler.
    """

    level: ImportanceName = "none"
    """What has a weight: each token, the product over a sequence, or its geometric mean."""
    cap: float = 0.0
    """The largest weight; 0 is no cap."""
    mask: float = 0.0
    """Tokens or sequences with a weight above this or below its inverse are left out; 0 is off."""


PRESETS: dict[ObjectiveName, Objective] = {
    "gmpo": Objective(
        aggregation="episode",
        clip="log",
        normalisation="sequence",
        epsilon=0.4,
        epsilon_high=0.4,
        source="arXiv 2507.20673",
    ),
    # The ALFWorld run of the paper, whose clip is one of whole sequences (`holder_seq` in its
    # code). Its sequences are turns. In mathematics the power falls from 2 to -2.
    "holder": Objective(
        aggregation="sequence",
        clip="ratio",
        normalisation="sequence",
        epsilon=0.2,
        epsilon_high=0.2,
        power=1.0,
        power_end=-1.0,
        source="arXiv 2605.12058, with beta 0, and an episode as a sequence",
    ),
    "grpo": Objective(
        aggregation="token",
        clip="ratio",
        normalisation="sequence",
        epsilon=0.2,
        epsilon_high=0.2,
        source="arXiv 2402.03300, with beta 0",
    ),
    "dr_grpo": Objective(
        aggregation="token",
        clip="ratio",
        normalisation="constant",
        advantage="group_mean",
        epsilon=0.2,
        epsilon_high=0.2,
        source="arXiv 2503.20783",
    ),
    "dapo": Objective(
        aggregation="token",
        clip="ratio",
        normalisation="token",
        epsilon=0.2,
        epsilon_high=0.28,
        source="arXiv 2503.14476; its dynamic sampling is train.drop_groups",
    ),
    "gspo": Objective(
        aggregation="sequence",
        clip="ratio",
        normalisation="sequence",
        epsilon=3e-4,
        epsilon_high=4e-4,
        source="arXiv 2507.18071",
    ),
    # The paper has no lower bound (epsilon 1 is none) and tunes the upper one. The largest weight
    # here, 5, is ScaleRL's (arXiv 2510.13786).
    "cispo": Objective(
        aggregation="token",
        clip="weight",
        normalisation="token",
        epsilon=1.0,
        epsilon_high=4.0,
        source="arXiv 2506.13585",
    ),
    "rloo": Objective(
        aggregation="token",
        clip="none",
        normalisation="constant",
        advantage="leave_one_out",
        source="arXiv 2402.14740",
    ),
    "reinforce": Objective(
        aggregation="token",
        clip="none",
        normalisation="constant",
        advantage="group_mean",
        source="Williams, Machine Learning 8, 1992, with the group's mean as baseline",
    ),
}


def display_name(objective: ObjectiveName) -> str:
    """Return the name of an objective as texts write it: `dr_grpo` is `DR GRPO`."""
    return objective.upper().replace("_", " ")
