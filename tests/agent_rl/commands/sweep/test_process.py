"""What a run's process looks at before it begins; `test_sweep` has a real one that trains."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.sweep.process import refuse_another_start
from agent_rl.config import Config, ConfigError
from agent_rl.policy.fingerprint import fingerprint


def test_a_run_begins_with_the_weights_that_were_evaluated_as_the_start(tmp_path: Path) -> None:
    policy, report = tmp_path / "policy", tmp_path / "sweep/start/evaluations/final.json"
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    (policy / "model.safetensors").write_bytes(b"one")
    report.parent.mkdir(parents=True)
    report.write_text(
        json.dumps({"setting": {"weights": fingerprint(str(policy)).weights}, "splits": {}})
    )
    config = Config.model_validate(
        {"run_folder": str(tmp_path / "sweep/gmpo-s0"), "model": {"path": str(policy)}}
    )
    refuse_another_start(config)
    (policy / "model.safetensors").write_bytes(b"another")
    with pytest.raises(
        ConfigError, match=rf"model {policy}: its weights \(\w+\) are not those that were evaluated"
    ):
        refuse_another_start(config)
