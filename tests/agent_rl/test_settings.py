from typing import Any

import pytest
from pydantic import ValidationError

from agent_rl.settings import LearnerSettings, ModelSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "grpo", "scope": "episode"}, "scope: episode has no effect with objective: grpo"),
        ({"objective": "grpo", "clip_low": 1.5}, "clip_low: 1.5 must be below 1"),
        ({"old_logprobs": "sampler", "tis_cap": 2.0}, "tis_cap: 2.0 has no effect with old_logprobs: sampler"),
        ({"tis_cap": 0.5}, "tis_cap: 0.5 would shrink"),
        ({"betas": (0.9, 1.0)}, r"betas: \[0.9, 1.0\] must lie in"),
    ],
)
def test_what_an_objective_does_not_use_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LearnerSettings.model_validate(values)


@pytest.mark.parametrize("values", [{}, {"objective": "grpo"}, {"old_logprobs": "sampler"}])
def test_resolved_settings_can_be_read_again(values: dict[str, Any]) -> None:
    settings = LearnerSettings.model_validate(values)
    assert LearnerSettings.model_validate(settings.model_dump()) == settings


def test_defaults_follow_the_objective() -> None:
    assert LearnerSettings().clip_range == (0.4, 0.4)
    assert LearnerSettings(objective="grpo", clip_high=0.28).clip_range == (0.2, 0.28)
    assert LearnerSettings().effective_tis_cap == 2.0
    assert LearnerSettings(old_logprobs="sampler").effective_tis_cap == 0.0


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 3), (8, 8)])
def test_heads_must_divide(heads: int, kv_heads: int) -> None:
    with pytest.raises(ValidationError, match="heads"):
        ModelSettings(hidden_size=128, heads=heads, kv_heads=kv_heads)
