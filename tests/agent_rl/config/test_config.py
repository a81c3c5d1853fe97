from typing import Any

import pytest
from pydantic import ValidationError

from agent_rl.config import Config


def config(**sections: dict[str, Any]) -> Config:
    return Config.model_validate({"run_folder": "r", **sections})


def test_each_optimizer_step_has_an_episode() -> None:
    two = {"tasks_per_step": 1, "num_generations": 2}
    assert config(train=two, learner={"optimizer_steps": 2}).learner.optimizer_steps == 2
    with pytest.raises(ValidationError, match="3 optimizer steps cannot share the 2 episodes"):
        config(train=two, learner={"optimizer_steps": 3})


def test_muon_in_the_warm_start_needs_one_rank() -> None:
    with pytest.raises(ValidationError, match=r"0\.01 needs whole matrices.*use ranks: 1"):
        config(sft={"muon_learning_rate": 0.01}, learner={"ranks": 2})
