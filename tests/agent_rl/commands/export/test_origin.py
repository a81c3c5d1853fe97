"""The origin of a policy, by its place in a run folder."""

from pathlib import Path

import pytest

from agent_rl.commands.export.origin import Origin
from agent_rl.config import Config
from agent_rl.runs.layout import RunLayout
from rollouts import PromptSettings
from tests.builders.runs import write_checkpoint


@pytest.mark.parametrize(
    ("source", "kind", "step"),
    [
        ("run/init", "init", None),
        ("run/sft/model", "sft", None),
        ("run/train/checkpoints/step-000050/model", "train", 50),
        ("run/train/checkpoints/step-000050", "other", None),
        ("run/export", "other", None),
        ("owner/name", "other", None),
    ],
)
def test_the_place_tells_the_stage(
    source: str, kind: str, step: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    origin = Origin.of(source, Config(run_folder="x"))
    assert (origin.kind, origin.step) == (kind, step)
    assert origin.run == (None if kind == "other" else RunLayout(tmp_path / "run"))
    assert origin.settings["run_folder"] == "x"


def test_the_recorded_config_goes_before_the_given_one(tmp_path: Path) -> None:
    (tmp_path / "run/sft/model").mkdir(parents=True)
    (tmp_path / "run/sft/config.yaml").write_text("run_folder: recorded")
    origin = Origin.of(str(tmp_path / "run/sft/model"), Config(run_folder="x"))
    assert origin.settings == {"run_folder": "recorded"}


def test_the_exported_tokenizer_has_the_template(tmp_path: Path) -> None:
    prompt = PromptSettings(format="chat", template="own.jinja", template_options={"style": 1})
    origin = Origin.of("owner/name", Config(run_folder="x", prompt=prompt))
    assert (origin.settings["prompt"]["template"], origin.settings["prompt"]["format"]) == (
        *("", "chat"),
    )
    assert origin.settings["prompt"]["template_options"] == {"style": 1}
    (tmp_path / "run/sft/model").mkdir(parents=True)
    (tmp_path / "run/sft/config.yaml").write_text("prompt: {template: own.jinja, think: true}")
    recorded = Origin.of(str(tmp_path / "run/sft/model"), Config(run_folder="x"))
    assert recorded.settings == {"prompt": {"template": "", "think": True}}


def test_a_checkpoint_before_the_last_has_not_finished_its_stage(tmp_path: Path) -> None:
    origins = []
    for step in (20, 50):
        checkpoint = write_checkpoint(tmp_path / "run", step)
        (checkpoint / "config.yaml").write_text("run_folder: run")
        origins.append(Origin.of(str(checkpoint / "model"), Config(run_folder="x")))
    assert [origin.finished_stage for origin in origins] == ["sft", "train"]
