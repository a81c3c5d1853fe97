from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import Config, ConfigError, dump_config
from agent_rl.training.resuming import check_resumable
from tests.builders.scripted_session import loop_config, scripted_loop


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    loop, _ = scripted_loop(tmp_path_factory.mktemp("run"), rollout_steps=1)
    path = loop.train()
    loop.close()
    return path


def changed(checkpoint: Path, **sections: dict[str, Any] | int) -> Config:
    """The checkpoint's config, moved to another folder and with other values."""
    values = loop_config(checkpoint.parents[2], rollout_steps=1).model_dump()
    for section, part in sections.items():
        values[section] = {**values[section], **part} if isinstance(part, dict) else part
    return Config.model_validate({**values, "run_folder": "moved"})


def test_the_same_config_says_nothing(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other_machine = {"workers": {"count": 7}, "sft": {"epochs": 9}, "learner": {"ranks": 2}}
    check_resumable(checkpoint, changed(checkpoint, **other_machine))
    assert capsys.readouterr().out == ""


def test_what_a_change_means_is_one_line_a_key(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = {"objective": "grpo", "learning_rate": 1e-3}
    check_resumable(checkpoint, changed(checkpoint, learner=learner, train={"rollout_steps": 9}))
    assert capsys.readouterr().out.splitlines() == [
        "changed since the checkpoint: learner.learning_rate: 0.01 -> 0.001",
        "changed since the checkpoint: learner.objective: 'gmpo' -> 'grpo'",
        "changed since the checkpoint: train.rollout_steps: 1 -> 9",
    ]


def test_a_template_whose_text_has_changed_is_told(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.jinja").write_text("new")
    saved = checkpoint / "model" / "chat_template.jinja"
    saved.write_text("old")
    prompt = {"template": str(tmp_path / "own.jinja")}
    try:
        check_resumable(checkpoint, changed(checkpoint, prompt=prompt))
    finally:
        saved.unlink()
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"changed since the checkpoint: the text of prompt.template: {tmp_path}/own.jinja"
    )


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"learner": {"muon_learning_rate": 0.1}},
            r"muon_learning_rate: .* with None, .* says 0.1",
        ),
        ({"model": {"hidden_size": 64}}, r"model\.hidden_size: .* says 64"),
        ({"model": {"lora": {"rank": 4}}}, r"model\.lora"),
        ({"seed": 7}, r"seed: the checkpoint was made with 0, and the config now says 7"),
        ({"env": {"id": "textworld"}}, r"env\.id: .* says 'textworld'"),
    ],
)
def test_another_optimizer_model_seed_or_world_is_refused(
    checkpoint: Path, sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{checkpoint}/config\.yaml: .*{said}.*set it back, or"):
        check_resumable(checkpoint, changed(checkpoint, **sections))


def test_settings_that_cannot_be_read_are_not_compared(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "config.yaml").write_text("learner: {gone_since: 1}\n")
    check_resumable(checkpoint, changed(checkpoint))
    assert "are not compared with the present ones: " in capsys.readouterr().out
    (checkpoint / "config.yaml").write_text(dump_config(loop_config(checkpoint.parents[2])))
