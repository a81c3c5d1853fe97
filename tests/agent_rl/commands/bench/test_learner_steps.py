"""The implementations of an optimizer step, on a tiny model."""

import copy

import pytest
import torch

from agent_rl.commands.bench.learner_steps import WAYS, _padded_loss
from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.samples import TrainingSample
from tests.builders.models import make_model

SETTINGS = LearnerSettings.model_validate(
    {"dtype": "float32", "micro_batch_tokens": 16, "optimizer_steps": 1, "learning_rate": 1e-3}
)
SAMPLES = [
    TrainingSample(
        token_ids=(5, 6, 7, 8, 9),
        action_mask=(False, False, True, True, False),
        behavior_logprobs=(0.0, 0.0, -2.0, -4.0, 0.0),
        advantages=(1.0,),
    ),
    TrainingSample(
        token_ids=(5, 6, 10),
        action_mask=(False, False, True),
        behavior_logprobs=(0.0, 0.0, -3.0),
        advantages=(-1.0,),
    ),
]


@pytest.mark.parametrize("way", WAYS)
def test_each_takes_a_step(way: str) -> None:
    model = make_model(0).float()
    before = copy.deepcopy(model.lm_head.weight)
    WAYS[way](model, SAMPLES, SETTINGS)()
    assert not torch.equal(model.lm_head.weight, before)
    assert torch.isfinite(model.lm_head.weight).all()


@torch.no_grad()
def test_the_padded_loss_is_gmpo_of_each_episode() -> None:
    model = make_model(0).float().eval()
    expected = 0.0
    for sample in SAMPLES:
        ids = torch.tensor([sample.token_ids])
        logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        ratios = []
        for target in range(1, len(sample.token_ids)):
            if sample.action_mask[target]:
                new = float(logprobs[target - 1, sample.token_ids[target]])
                ratio = new - sample.behavior_logprobs[target]
                bound = min if sample.advantages[0] > 0 else max
                ratios.append(bound(ratio, 0.4 if sample.advantages[0] > 0 else -0.4))
        weight = torch.tensor(ratios).mean().exp()
        expected -= sample.advantages[0] * float(weight)
    loss = _padded_loss(model, SAMPLES, torch.device("cpu"), SETTINGS)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
