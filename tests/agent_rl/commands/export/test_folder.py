"""The exported folder: weights, config, upload; refused and interrupted exports."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agent_rl.commands.export.folder import export
from agent_rl.commands.stages.start import starting_policy
from agent_rl.config import ConfigError, load_config
from agent_rl.config.model import LoraSettings
from agent_rl.policy.loading import load_policy, load_to_train
from agent_rl.policy.saving import save_policy
from tests.builders.export import TOKENIZER, Exports, logits, write


def test_the_newest_policy_survives_its_export(
    config: Path, run_folder: Path, tmp_path: Path, exports: Exports
) -> None:
    assert exports(config, "--dtype", "float32") == ""
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
    assert exports(config, "--to", tmp_path / "half") == ""
    half = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert torch.equal(half["lm_head.weight"], exported.lm_head.weight.bfloat16())
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_config_of_an_old_run_is_exported_with_todays_keys(
    config: Path, run_folder: Path, exports: Exports
) -> None:
    recorded = run_folder / "sft" / "config.yaml"
    recorded.write_text(recorded.read_text().replace("observation_epochs: 0", "reading_epochs: 2"))
    assert exports(config, "--model", run_folder / "sft" / "model") == ""
    exported = load_config(run_folder / "export" / "agent_rl.yaml")
    assert exported.sft.observation_epochs == 2


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


def test_what_is_refused(config: Path, run_folder: Path, tmp_path: Path, exports: Exports) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    way_out = "exists already and is not empty; delete it, or name another folder with --to"
    assert exports(config, "--to", taken) == f"error: {taken}: {way_out}"
    assert exports(config, "--to", taken / "thesis.tex") == f"error: {taken}/thesis.tex: {way_out}"
    assert [path.name for path in taken.iterdir()] == ["thesis.tex"]
    message = exports(config, "--dtype", "int4")
    assert message == "error: --dtype int4: is not one of bfloat16, float16, float32"
    message = exports(config, "--model", tmp_path / "nowhere")
    assert f"model {tmp_path}/nowhere: no such file or folder" in message
    message = exports(config, f"run_folder={tmp_path}/other")
    assert "holds no policy yet; make one with `agent-rl init CONFIG`" in message
    message = exports(config, "--push-to-hub", "a/b/c")
    assert message.startswith("error: --push-to-hub a/b/c: is no repository's name")
    step_40 = run_folder / "train" / "evaluations" / "step-000040.json"
    step_40.write_text('{"overall": ')
    message = exports(config)
    assert f"{step_40}: is no evaluation report" in message
    assert "delete it, and the card leaves it out" in message
    write(step_40, {"overall": {}, "families": {}})
    message = exports(config)
    assert (
        f"{step_40}: is a report of version 1, and this is version 2; evaluate again; or delete it"
        in message
    )
    step_40.unlink()
    demo = run_folder / "demo.json"
    write(demo, {"stages": {"init": {"overall": {}, "families": {}}}})
    assert f"{demo}: is a report of version 1, and this is version 2" in exports(config)
    write(demo, [])
    assert f"{demo}: has no stages" in exports(config)
    assert {path.name for path in run_folder.iterdir()} == {"init", "sft", "train", "demo.json"}


def test_an_upload_without_token_or_network(
    config: Path, run_folder: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_rl.commands.export.folder.get_token", lambda: None)
    message = exports(config, "--push-to-hub", "me/numbers")
    assert message == (
        "error: --push-to-hub me/numbers: no token; log in with `hf auth login` or set HF_TOKEN; "
        f"the export is in {run_folder}/export; upload it later with "
        f"`hf upload me/numbers {run_folder}/export`"
    )
    card = (run_folder / "export" / "README.md").read_text()
    assert "AutoModelForCausalLM.from_pretrained('me/numbers')" in card
    assert "hf download me/numbers --local-dir policy\nagent-rl evaluate policy/agent_rl" in card
    assert "agent-rl evaluate policy/agent_rl.yaml --model policy\n" in card

    monkeypatch.setattr("agent_rl.commands.export.folder.get_token", lambda: "none-of-yours")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    message = exports(config, "--push-to-hub", "me/numbers", "--to", run_folder / "second")
    assert "--push-to-hub me/numbers: the hub cannot be reached (" in message
    assert f"the export is in {run_folder}/second; upload it later" in message
    load_policy(str(run_folder / "second"))


def test_an_export_that_dies_leaves_nothing(
    config: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = load_config(config)
    with monkeypatch.context() as patch:

        def die(model: object, tokenizer: object, folder: Path) -> None:
            (folder / "half").touch()
            raise KeyboardInterrupt

        patch.setattr("agent_rl.commands.export.folder.save_policy", die)
        with pytest.raises(KeyboardInterrupt):
            export(checked, starting_policy(checked), to=tmp_path / "out" / "policy")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ConfigError, match="--dtype"):
        export(checked, starting_policy(checked), dtype="")
