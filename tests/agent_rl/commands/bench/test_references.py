"""transformers' `generate` on turns; `test_rollout.py` runs the ways that need an engine."""

import pytest
import torch

from agent_rl.commands.bench import references
from agent_rl.commands.bench.turns import TurnRequest
from tests.builders.models import make_model


@pytest.mark.process
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate_samples_what_the_longest_request_asks_for(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(0).float().eval()
    # Its end token is the likeliest by far, and ends nothing here.
    model.lm_head.weight.data[1] *= 50.0
    asked = [
        TurnRequest(prompt=(5, 6, 7), tokens=2, seed=0),
        TurnRequest(prompt=(5,), tokens=6, seed=1),
    ]
    shapes = []
    real = type(model).generate

    def generate(*arguments: object, **settings: object) -> object:
        output = real(*arguments, **settings)
        shapes.append((output.sequences.shape, len(output.scores)))
        return output

    monkeypatch.setattr(type(model), "generate", generate)
    assert references.generate(model, asked, temperature) == 8
    assert shapes == [(torch.Size([2, 3 + 6]), 6)]
