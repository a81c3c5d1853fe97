"""Objectives as data: what each name stands for, as published. Light to import: no torch.

An objective is one choice in each of four questions.

`aggregation`: what a probability ratio belongs to.
    token      each token has its own
    turn       the geometric mean of a turn's clipped token ratios
    episode    the geometric mean of an episode's clipped token ratios
    sequence   the geometric mean of an episode's token ratios, clipped as a whole
`clip`: what stops a ratio from moving on. With epsilon = e and epsilon_high = h:
    log        log-ratios above h (advantage > 0) or below -e (advantage < 0) are cut, and have no gradient
    ratio      the same for ratios above 1 + h or below 1 - e: PPO's minimum of the clipped and the plain term
    weight     the ratio, cut to [1 - e, 1 + h], is a weight without gradient before the token's log-prob
    none       nothing
`normalisation`: what one token's term is divided by.
    sequence   the tokens of its episode (or turn, if that is the aggregation), and then the number of these
    token      the agent's tokens of the whole optimizer step
    constant   `normalisation_length` tokens, and the number of episodes
`advantage`: what an episode is compared with (see `agent_rl.objective.advantages`).
"""

from dataclasses import dataclass
from typing import Literal

Aggregation = Literal["token", "turn", "episode", "sequence"]
Clip = Literal["log", "ratio", "weight", "none"]
Normalisation = Literal["sequence", "token", "constant"]
AdvantageName = Literal["group_std", "group_mean", "leave_one_out", "turn_weighted", "turn_groups"]
ImportanceName = Literal["none", "token", "sequence", "geometric"]
ObjectiveName = Literal["gmpo", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "rloo", "reinforce"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A policy objective. `epsilon` and `epsilon_high` are 0 where nothing is clipped."""

    aggregation: Aggregation
    clip: Clip
    normalisation: Normalisation
    advantage: AdvantageName = "group_std"
    epsilon: float = 0.0
    epsilon_high: float = 0.0
    source: str = ""


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
    # The paper leaves the lower side open and tunes the upper one; 5 as the largest weight is
    # ScaleRL's (2510.13786).
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
