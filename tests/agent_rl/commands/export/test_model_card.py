"""The model card: its tables, its results, its example prompt."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_rl.commands.export.folder import export
from agent_rl.commands.export.model_card import COMMANDS, OBSERVATION
from agent_rl.config import load_config
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import load_policy
from agent_rl.policy.saving import save_policy
from rollouts import PromptSettings
from rollouts.renderer import load_renderer
from tests.builders.export import SIZES, TOKENIZER, Exports, report, write
from tests.builders.models import CHATML


def test_the_card_says_what_it_is(config: Path, run_folder: Path, exports: Exports) -> None:
    assert exports(config) == ""
    _, front, card = (run_folder / "export" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "tags": ["agent-rl", "reinforcement-learning", "language-agent"],
    }
    assert card.startswith("# numbers: an agent for guess-the-number\n")
    assert "Trained by reinforcement.\nThis is the policy after rollout step 50.\n" in card
    assert "Made from scratch" in card
    for row in (
        "| hidden size | 64 |",
        "| layers | 2 |",
        "| dtype | bfloat16 |",
        "| architecture | LlamaForCausalLM |",
    ):
        assert row in card
    for row in ("| id | guess-the-number |", "| train_split | train |", "| options.low | 1 |"):
        assert row in card
    for row in (
        "| objective | gmpo |",
        "| rollout_steps | 60 |",
        "| aggregation | episode |",
        "| epsilon | 0.4 |",
    ):
        assert row in card
    assert '| system | Say a number \\| "quickly". |' in card
    assert "Licence\n\nApache-2.0" in card
    assert "\n\n\n" not in card


def test_the_card_has_the_results_with_their_intervals(
    config: Path, run_folder: Path, exports: Exports
) -> None:
    assert exports(config) == ""
    card = (run_folder / "export" / "README.md").read_text()
    table = (
        "After rollout step 40, on `valid` at temperature 0.4:\n\n"
        "| family | n | success, % | 95 % interval |\n| --- | --- | --- | --- |\n"
        "| small | 4 | 75.0 | 10.0-83.0 |\n| **all** | 4 | 75.0 | 10.0-83.0 |\n\n"
        "Not scored, as they say nothing about the policy: 1 timeout.\n"
    )
    assert table in card
    # Step 60 is of a policy that step 50 had not become yet.
    assert re.findall(r"^(\w.*), on `valid`", card, re.MULTILINE) == [
        "Before training",
        "After the warm start",
        "After the reinforcement",
        "After rollout step 40",
    ]


def test_each_split_has_its_table(config: Path, run_folder: Path, exports: Exports) -> None:
    write(run_folder / "train" / "evaluations" / "step-000040.json", report(3, "seen", "unseen"))
    assert exports(config) == ""
    card = (run_folder / "export" / "README.md").read_text()
    assert re.findall(
        r"^After rollout step 40, on `(\w+)` at temperature 0.4:", card, re.MULTILINE
    ) == [
        "seen",
        "unseen",
    ]


def test_the_final_evaluation_of_a_sweeps_run_is_the_newest(
    config: Path, run_folder: Path, exports: Exports
) -> None:
    final = report(4)
    for step, shown in (("000060", 40), ("000050", 50)):
        final["setting"]["model"] = f"runs/numbers/train/checkpoints/step-{step}/model"
        write(run_folder / "evaluations" / "final.json", final)
        assert exports(config, "--to", run_folder / f"export-{step}") == ""
        card = (run_folder / f"export-{step}" / "README.md").read_text()
        assert re.findall(r"^After rollout step (\d+), on", card, re.MULTILINE) == [str(shown)]


def test_an_earlier_checkpoint_has_no_later_results(
    config: Path, run_folder: Path, exports: Exports
) -> None:
    steps = run_folder / "train" / "checkpoints"
    shutil.copytree(steps / "step-000050", steps / "step-000030")
    assert exports(config, "--model", steps / "step-000030" / "model") == ""
    card = (run_folder / "export" / "README.md").read_text()
    assert "This is the policy after rollout step 30." in card
    assert re.findall(r"^(\w.*), on `valid`", card, re.MULTILINE) == [
        "Before training",
        "After the warm start",
        "After rollout step 20",
    ]


def test_a_table_for_every_key_that_is_set(
    config: Path, run_folder: Path, exports: Exports
) -> None:
    """Those that this version does not know, too: a run may be older."""
    beside = run_folder / "train" / "checkpoints" / "step-000050" / "config.yaml"
    values = yaml.safe_load(beside.read_text())
    values["learner"] = {"objective": "old-one", "clip_low": 0.4, "scope": None}
    beside.write_text(yaml.safe_dump(values, sort_keys=False))
    assert exports(config) == ""
    card = (run_folder / "export" / "README.md").read_text()
    assert (
        "| learner | value |\n| --- | --- |\n| objective | old-one |\n| clip_low | 0.4 |\n\n"
        in card
    )
    assert "| scope |" not in card
    assert "The objective in full" not in card


@pytest.mark.parametrize(
    ("model", "what"), [("init", "Random weights"), ("sft/model", "The warm start")]
)
def test_an_earlier_stage_has_its_own_card(
    model: str, what: str, config: Path, run_folder: Path, exports: Exports
) -> None:
    assert exports(config, "--model", run_folder / model) == ""
    card = (run_folder / "export" / "README.md").read_text()
    assert what in card
    assert "After rollout step" not in card
    assert "After the reinforcement" not in card
    assert "| rollout_steps |" not in card
    assert ("After the warm start, on" in card) == (model != "init")
    assert ("| sft | value |" in card) == (model != "init")


def test_a_base_model_is_named(config: Path, run_folder: Path, tmp_path: Path) -> None:
    checked = load_config(config)
    save_policy(load_policy(str(run_folder / "init"))[0], TOKENIZER, tmp_path / "else")
    stranger = (
        export(checked, str(tmp_path / "else"), to=tmp_path / "a").joinpath("README.md").read_text()
    )
    assert f"The weights derive from `{tmp_path}/else`, whose licence holds for them" in stranger
    assert "license:" not in stranger
    assert "## The data" not in stranger
    assert "There is none in the run's folder." in stranger

    beside = run_folder / "sft" / "config.yaml"
    values = yaml.safe_load(beside.read_text())
    values["model"] |= {"path": "Qwen/Qwen2.5-1.5B-Instruct", "lora": {"rank": 4}}
    beside.write_text(yaml.safe_dump(values, sort_keys=False))
    card = (
        export(checked, str(run_folder / "sft" / "model"), to=tmp_path / "b")
        .joinpath("README.md")
        .read_text()
    )
    assert "base_model: Qwen/Qwen2.5-1.5B-Instruct\n" in card
    assert "Base model: `Qwen/Qwen2.5-1.5B-Instruct`." in card
    assert "An adapter (LoRA) was trained, and is merged" in card
    assert "| lora.rank | 4 |" in card
    assert "Made from scratch" not in card
    rows = "| path | Qwen/Qwen2.5-1.5B-Instruct |\n| lora.rank | 4 |\n\n"
    assert f"| model | value |\n| --- | --- |\n{rows}" in card


SNIPPET_PROMPTS: dict[str, dict[str, Any]] = {
    "plain": {"system": 'Say a number | "quickly".', "show_admissible_commands": True},
    "chat": {
        "format": "chat",
        "system": "Win.",
        "show_admissible_commands": True,
        "examples": [
            {"observation": "You see a door 1.", "action": "open door 1"},
            {"observation": "The door 1 is open.", "action": "go to door 1"},
        ],
    },
    "bare chat": {"format": "chat"},
    "dated chat": {
        "format": "chat",
        "template_options": {"strftime_now": "26 Jul", "style": "a 'b'"},
    },
}


@pytest.mark.parametrize("name", SNIPPET_PROMPTS)
def test_the_cards_snippet_shows_the_model_the_prompt_that_it_was_trained_on(
    name: str, config: Path, run_folder: Path, exports: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PromptSettings.model_validate(SNIPPET_PROMPTS[name])
    tokenizer = train_tokenizer(["You see a drawer 1."], 300)
    if settings.format == "chat":
        tokenizer.chat_template = CHATML.replace("<|im_end|>", tokenizer.eos_token)
        if settings.template_options:
            tokenizer.chat_template = "{{ style }}, {{ strftime_now('%d') }}" + CHATML.replace(
                "<|im_end|>", tokenizer.eos_token
            )
    save_policy(init_model(SIZES, tokenizer), tokenizer, run_folder / "init")
    values = yaml.safe_load(config.read_text())
    values["prompt"] = SNIPPET_PROMPTS[name]
    config.write_text(yaml.safe_dump(values))
    folder = run_folder / "shown"
    assert exports(config, "--model", run_folder / "init", "--to", folder) == ""
    snippet = (folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(snippet, names)
    trained = load_renderer(folder, settings).first(OBSERVATION, COMMANDS)
    assert names["ids"].tolist() == [list(trained)]
    assert (
        all(command in names["prompt"] for command in COMMANDS) is settings.show_admissible_commands
    )
    assert names["prompt"].startswith("a 'b', 26 Jul<") is (name == "dated chat")
    assert ("The door 1 is open." in names["prompt"]) is (name == "chat")
    assert 0 < len(names["answer"]) <= 16
    assert capsys.readouterr().out
