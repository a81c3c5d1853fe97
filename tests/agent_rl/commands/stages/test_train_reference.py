"""Which policy `learner.beta` compares with."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from agent_rl.commands.stages.train import open_to_train
from agent_rl.config import Config
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.lora import has_adapter
from agent_rl.runs.layout import RunLayout
from tests.builders.adapters import by_peft
from tests.builders.models import save_policy

LORA = {"rank": 4, "alpha": 6, "target_modules": ["q_proj", "v_proj"]}
IDS = torch.tensor([[5, 3, 8, 270, 30, 2]])


class Opened:
    """Loads in this process what a learner is told to load."""

    policy: Any
    reference: Any = None

    def open(self, load: Any, *_: Any, load_reference: Any) -> None:
        self.policy, _ = load()
        if load_reference is not None:
            self.reference, _ = load_reference()


def opened(run: Path, source: Path, lora: dict[str, Any] | None, beta: float = 0.01) -> Opened:
    config = Config.model_validate(
        {
            "run_folder": str(run),
            "model": {"path": str(source), "lora": lora},
            "learner": {"beta": beta},
        }
    )
    learner = Opened()
    open_to_train(cast(LearnerProcesses, learner), config, str(source), RunLayout(run))
    return learner


@torch.no_grad()
def logits(model: Any) -> Any:
    return model(input_ids=IDS).logits


def test_a_run_that_goes_on_with_an_adapter_has_it_in_its_reference(tmp_path: Path) -> None:
    """With the adapter switched off it would be compared with a policy that it did not begin as."""
    base = save_policy(tmp_path / "base", 0)
    adapter = by_peft(base, tmp_path / "adapter")
    learner = opened(tmp_path / "run", adapter, LORA)
    assert has_adapter(learner.policy)
    assert not has_adapter(learner.reference)
    assert (logits(learner.reference) - logits(learner.policy)).abs().max() < 1e-4
    with learner.policy.disable_adapter():
        assert (logits(learner.reference) - logits(learner.policy)).abs().max() > 0.1
    assert opened(tmp_path / "run", adapter, LORA, beta=0.0).reference is None


@pytest.mark.parametrize(("lora", "has_reference"), [(LORA, False), (None, True)])
def test_a_new_adapter_is_switched_off_in_place_of_a_reference(
    lora: dict[str, Any] | None, has_reference: bool, tmp_path: Path
) -> None:
    base = save_policy(tmp_path / "base", 0)
    assert (opened(tmp_path / "run", base, lora).reference is not None) is has_reference
