"""The learning rate over a run."""

import math

from agent_rl.config.learner import LearnerSettings


def learning_rate_factor(step: int, settings: LearnerSettings, total_steps: int) -> float:
    """What the learning rate of optimizer step `step` (from 0) is multiplied by.

    Linear from 1/warmup_steps to 1 over the warm-up; then 1, or down to 0 at `total_steps`,
    linearly or by a cosine.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    done = min((step - settings.warmup_steps) / max(total_steps - settings.warmup_steps, 1), 1.0)
    return 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
