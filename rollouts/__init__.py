"""Episodes: text to tokens and back through a served policy."""

from rollouts.settings import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.types import (
    Completion,
    FinishReason,
    ParsedAction,
    StopReason,
    Trajectory,
    TrajectoryGroup,
    Turn,
)

__all__ = [
    "Completion",
    "EpisodeSettings",
    "FinishReason",
    "ParsedAction",
    "PromptSettings",
    "ServingSettings",
    "StopReason",
    "Trajectory",
    "TrajectoryGroup",
    "Turn",
    "WorkerSettings",
]
