import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl import cli
from agent_rl.commands.export.folder import export
from agent_rl.commands.export.model_card import COMMANDS, OBSERVATION
from agent_rl.commands.stages.start import starting_policy
from agent_rl.config import ConfigError, dump_config, load_config
from agent_rl.config.model import LoraSettings, ModelSettings
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.scores import RepeatScore, Score, SplitReport
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import load_policy, load_to_train, save_policy
from agent_rl.runs.layout import missing_files
from rollouts import PromptSettings
from rollouts.renderer import load_renderer
from tests.builders.models import CHATML

TOKENIZER = train_tokenizer(["You see a drawer 1."], 300)
SIZES = ModelSettings(
    hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=48, context_length=64
)
IDS = torch.tensor([[5, 3, 8, 270, 30, 2]])
CONFIG = """
run_folder: {folder}
model: {{hidden_size: 64, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 48, context_length: 64}}
env: {{id: guess-the-number, options: {{low: 1, high: 9}}}}
prompt: {{system: 'Say a number | "quickly".'}}
train: {{rollout_steps: 60}}
"""
Run = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(folder=tmp_path / "numbers"))
    return path


@pytest.fixture
def run_folder(config: Path, tmp_path: Path) -> Path:
    """A run as the stages leave it: made from scratch, warm-started, trained to step 50 and
    evaluated on the way.
    """
    folder = tmp_path / "numbers"
    text = dump_config(load_config(config))
    save_policy(init_model(SIZES, TOKENIZER, seed=0), TOKENIZER, folder / "init")
    save_policy(init_model(SIZES, TOKENIZER, seed=1), TOKENIZER, folder / "sft" / "model")
    (folder / "sft" / "config.yaml").write_text(text)
    step_50 = folder / "train" / "checkpoints" / "step-000050"
    save_policy(init_model(SIZES, TOKENIZER, seed=2), TOKENIZER, step_50 / "model")
    (step_50 / "config.yaml").write_text(text)
    # The rest of a whole checkpoint is never read here.
    for name in missing_files(step_50):
        (step_50 / name).parent.mkdir(exist_ok=True)
        (step_50 / name).touch()
    for step, successes in ((20, 1), (40, 3), (60, 4)):
        write(folder / "train" / "evaluations" / f"step-{step:06d}.json", report(successes))
    write(
        folder / "demo.json",
        {"stages": {"init": report(0), "sft": report(1), "train": report(2)}, "seconds": {}},
    )
    return folder


def report(successes: int, *splits: str) -> dict[str, Any]:
    """4 games of which so many were won."""
    interval = (0.1, 0.8 + successes / 100)
    repeat = RepeatScore(n=4, successes=successes, success=successes / 4, interval=interval)
    score = Score(
        n=4,
        repeats=1,
        successes=successes,
        success=successes / 4,
        interval=interval,
        per_repeat=(repeat,),
        mean_turns=3.0,
        turns_to_success=None,
        invalid_action_rate=0.0,
        tokens_per_episode=9.0,
        agent_tokens_per_episode=6.0,
    )
    part = SplitReport(
        overall=score, families={"small": score}, games=(), stop_reasons={}, failures={"timeout": 1}
    )
    return EvaluationReport(
        setting={"temperature": 0.4}, splits=dict.fromkeys(splits or ("valid",), part), gap=None
    ).record()


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def agent_rl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; returns the error that it ends with, if any."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["agent-rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        error = capsys.readouterr().err.strip()
        assert end.value.code == (2 if error else 0)
        assert "Traceback" not in error
        return error

    return run


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    found: Tensor = model(input_ids=IDS).logits
    return found


def test_the_newest_policy_survives_its_export(
    config: Path, run_folder: Path, tmp_path: Path, agent_rl: Run
) -> None:
    assert agent_rl("export", config, "--dtype", "float32") == ""
    newest = run_folder / "train" / "checkpoints" / "step-000050" / "model"
    exported, tokenizer = load_policy(str(run_folder / "export"))
    assert torch.equal(logits(exported), logits(load_policy(str(newest))[0]))
    assert tokenizer.encode("a drawer 1") == TOKENIZER.encode("a drawer 1")
    assert (run_folder / "export" / "agent_rl.yaml").read_text() == (
        newest.parent / "config.yaml"
    ).read_text()
    load_config(run_folder / "export" / "agent_rl.yaml")
    assert not [path for path in run_folder.iterdir() if "unfinished" in path.name]

    (tmp_path / "half").mkdir()  # an empty folder is as good as none
    assert agent_rl("export", config, "--to", tmp_path / "half") == ""
    half = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert torch.equal(half["lm_head.weight"], exported.lm_head.weight.bfloat16())
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_config_of_an_old_run_is_exported_with_todays_keys(
    config: Path, run_folder: Path, agent_rl: Run
) -> None:
    recorded = run_folder / "sft" / "config.yaml"
    recorded.write_text(recorded.read_text().replace("observation_epochs: 0", "reading_epochs: 2"))
    assert agent_rl("export", config, "--model", run_folder / "sft" / "model") == ""
    exported = load_config(run_folder / "export" / "agent_rl.yaml")
    assert exported.sft.observation_epochs == 2


def test_the_card_says_what_it_is(config: Path, run_folder: Path, agent_rl: Run) -> None:
    assert agent_rl("export", config) == ""
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
    config: Path, run_folder: Path, agent_rl: Run
) -> None:
    assert agent_rl("export", config) == ""
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


def test_each_split_has_its_table(config: Path, run_folder: Path, agent_rl: Run) -> None:
    write(run_folder / "train" / "evaluations" / "step-000040.json", report(3, "seen", "unseen"))
    assert agent_rl("export", config) == ""
    card = (run_folder / "export" / "README.md").read_text()
    assert re.findall(
        r"^After rollout step 40, on `(\w+)` at temperature 0.4:", card, re.MULTILINE
    ) == [
        "seen",
        "unseen",
    ]


def test_the_final_evaluation_of_a_sweeps_run_is_the_newest(
    config: Path, run_folder: Path, agent_rl: Run
) -> None:
    final = report(4)
    for step, shown in (("000060", 40), ("000050", 50)):
        final["setting"]["model"] = f"runs/numbers/train/checkpoints/step-{step}/model"
        write(run_folder / "evaluations" / "final.json", final)
        assert agent_rl("export", config, "--to", run_folder / f"export-{step}") == ""
        card = (run_folder / f"export-{step}" / "README.md").read_text()
        assert re.findall(r"^After rollout step (\d+), on", card, re.MULTILINE) == [str(shown)]


def test_an_earlier_checkpoint_has_no_later_results(
    config: Path, run_folder: Path, agent_rl: Run
) -> None:
    steps = run_folder / "train" / "checkpoints"
    shutil.copytree(steps / "step-000050", steps / "step-000030")
    assert agent_rl("export", config, "--model", steps / "step-000030" / "model") == ""
    card = (run_folder / "export" / "README.md").read_text()
    assert "This is the policy after rollout step 30." in card
    assert re.findall(r"^(\w.*), on `valid`", card, re.MULTILINE) == [
        "Before training",
        "After the warm start",
        "After rollout step 20",
    ]


def test_a_table_for_every_key_that_is_set(config: Path, run_folder: Path, agent_rl: Run) -> None:
    """Those that this version does not know, too: a run may be older."""
    beside = run_folder / "train" / "checkpoints" / "step-000050" / "config.yaml"
    values = yaml.safe_load(beside.read_text())
    values["learner"] = {"objective": "old-one", "clip_low": 0.4, "scope": None}
    beside.write_text(yaml.safe_dump(values, sort_keys=False))
    assert agent_rl("export", config) == ""
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
    model: str, what: str, config: Path, run_folder: Path, agent_rl: Run
) -> None:
    assert agent_rl("export", config, "--model", run_folder / model) == ""
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
    assert (
        "| model | value |\n| --- | --- |\n| path | Qwen/Qwen2.5-1.5B-Instruct |\n| lora.rank | 4 |\n\n"
        in card
    )


def test_an_adapter_is_exported_merged(config: Path, run_folder: Path, tmp_path: Path) -> None:
    model, _ = load_to_train(str(run_folder / "init"), LoraSettings(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    step = run_folder / "train" / "checkpoints" / "step-000060" / "model"
    save_policy(model, TOKENIZER, step)
    folder = export(load_config(config), str(step), to=tmp_path / "merged", dtype="float32")
    assert not (folder / "adapter").exists()
    exported, _ = load_policy(str(folder))
    torch.testing.assert_close(logits(exported), logits(model), rtol=0, atol=1e-5)


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
}


@pytest.mark.parametrize("name", SNIPPET_PROMPTS)
def test_the_cards_snippet_shows_the_model_the_prompt_that_it_was_trained_on(
    name: str, config: Path, run_folder: Path, agent_rl: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PromptSettings.model_validate(SNIPPET_PROMPTS[name])
    tokenizer = train_tokenizer(["You see a drawer 1."], 300)
    if settings.format == "chat":
        tokenizer.chat_template = CHATML.replace("<|im_end|>", tokenizer.eos_token)
    save_policy(init_model(SIZES, tokenizer), tokenizer, run_folder / "init")
    values = yaml.safe_load(config.read_text())
    values["prompt"] = SNIPPET_PROMPTS[name]
    config.write_text(yaml.safe_dump(values))
    folder = run_folder / "shown"
    assert agent_rl("export", config, "--model", run_folder / "init", "--to", folder) == ""
    snippet = (folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(snippet, names)
    trained = load_renderer(folder, settings).first(OBSERVATION, COMMANDS)
    assert names["ids"].tolist() == [list(trained)]
    assert all(command in names["prompt"] for command in COMMANDS) is (name != "bare chat")
    assert ("The door 1 is open." in names["prompt"]) is (name == "chat")
    assert 0 < len(names["answer"]) <= 16
    assert capsys.readouterr().out


def test_what_is_refused(config: Path, run_folder: Path, tmp_path: Path, agent_rl: Run) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    way_out = "exists already and is not empty; delete it, or name another folder with --to"
    assert agent_rl("export", config, "--to", taken) == f"error: {taken}: {way_out}"
    assert (
        agent_rl("export", config, "--to", taken / "thesis.tex")
        == f"error: {taken}/thesis.tex: {way_out}"
    )
    assert [path.name for path in taken.iterdir()] == ["thesis.tex"]
    message = agent_rl("export", config, "--dtype", "int4")
    assert message == "error: --dtype int4: is not one of bfloat16, float16, float32"
    message = agent_rl("export", config, "--model", tmp_path / "nowhere")
    assert f"model {tmp_path}/nowhere: no such file or folder" in message
    message = agent_rl("export", config, f"run_folder={tmp_path}/other")
    assert "holds no policy yet; make one with `agent-rl init CONFIG`" in message
    message = agent_rl("export", config, "--push-to-hub", "a/b/c")
    assert message.startswith("error: --push-to-hub a/b/c: is no name of a repository")
    step_40 = run_folder / "train" / "evaluations" / "step-000040.json"
    step_40.write_text('{"overall": ')
    message = agent_rl("export", config)
    assert f"{step_40}: is no evaluation report" in message
    assert "delete it, and the card leaves it out" in message
    write(step_40, {"overall": {}, "families": {}})
    message = agent_rl("export", config)
    assert (
        f"{step_40}: is a report of version 1, and this is version 2; evaluate again; or delete it"
        in message
    )
    step_40.unlink()
    demo = run_folder / "demo.json"
    write(demo, {"stages": {"init": {"overall": {}, "families": {}}}})
    assert f"{demo}: is a report of version 1, and this is version 2" in agent_rl("export", config)
    write(demo, [])
    assert f"{demo}: has no stages" in agent_rl("export", config)
    assert {path.name for path in run_folder.iterdir()} == {"init", "sft", "train", "demo.json"}


def test_an_upload_without_token_or_network(
    config: Path, run_folder: Path, agent_rl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_rl.commands.export.folder.get_token", lambda: None)
    message = agent_rl("export", config, "--push-to-hub", "me/numbers")
    assert message == (
        "error: --push-to-hub me/numbers: no token; log in with `hf auth login` or set HF_TOKEN; the export is in "
        f"{run_folder}/export; upload it later with `hf upload me/numbers {run_folder}/export`"
    )
    card = (run_folder / "export" / "README.md").read_text()
    assert "AutoModelForCausalLM.from_pretrained('me/numbers')" in card
    assert (
        "hf download me/numbers --local-dir policy\nagent-rl evaluate policy/agent_rl.yaml --model policy\n"
        in card
    )

    monkeypatch.setattr("agent_rl.commands.export.folder.get_token", lambda: "none-of-yours")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    message = agent_rl(
        "export", config, "--push-to-hub", "me/numbers", "--to", run_folder / "second"
    )
    assert "--push-to-hub me/numbers: the hub cannot be reached (" in message
    assert f"the export is in {run_folder}/second; upload it later" in message
    load_policy(str(run_folder / "second"))


def test_an_export_that_dies_leaves_nothing(
    config: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = load_config(config)
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("agent_rl.commands.export.folder.model_card", die)
        with pytest.raises(KeyboardInterrupt):
            export(checked, starting_policy(checked), to=tmp_path / "out" / "policy")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ConfigError, match="--dtype"):
        export(checked, starting_policy(checked), dtype="")
