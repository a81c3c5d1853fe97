"""Scores in bfloat16 on CPU; `test_learner.py` holds those in float64 to plain computations."""

import pytest
import torch
from torch import Tensor

from agent_rl.learner import scoring
from agent_rl.learner.batch import Batch
from agent_rl.learner.scoring import Scorer
from tests.builders.tiny_learner import MakeModel, MakeSamples


def test_positions_that_fill_a_pack_up_change_nothing(
    tiny_model: MakeModel, random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch.from_samples(random_samples(6))
    lengths: list[int] = []

    def scored(multiple: int) -> tuple[Tensor, Tensor]:
        """Log-probs and the gradient of their sum."""
        monkeypatch.setattr(scoring, "_ROUND", multiple)
        model = tiny_model(dtype=torch.float32)
        model.model.layers[0].register_forward_hook(
            lambda _, states, out: lengths.append(out.shape[1])
        )
        logprobs_N = Scorer(model, autocast=True)(batch).logprobs_N
        gradients = torch.autograd.grad(logprobs_N.sum(), [*model.parameters()])
        return logprobs_N.detach(), torch.cat([g.flatten() for g in gradients])

    (plain, gradient), (filled, of_filled) = scored(1), scored(128)
    assert batch.tree.size % 128
    assert lengths == [batch.tree.size, -(-batch.tree.size // 128) * 128]
    torch.testing.assert_close(filled, plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(of_filled, gradient, rtol=0, atol=1e-4 * float(gradient.abs().max()))
