import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.samples import TrainingSample
from agent_rl.policy.from_scratch import train_tokenizer
from agent_rl.policy.loading import load_policy
from agent_rl.policy.saving import save_policy
from agent_rl.runs.checkpoint import (
    Snapshot,
    load_checkpoint,
    random_state,
    require_whole_model,
    save_checkpoint,
)
from agent_rl.runs.layout import StageLayout

MakeModel = Callable[..., LlamaForCausalLM]
MakeSamples = Callable[..., list[TrainingSample]]
WALL = dict.fromkeys(
    ("seconds", "tokens_per_second", "model_flop_utilisation", "peak_memory_gib"), 0.0
)
SETTINGS = LearnerSettings(
    device="cpu", learning_rate=1e-3, optimizer_steps=2, warmup_steps=3, schedule="cosine"
)


TOKENS = 260
"""Tokens of the tokenizer in a checkpoint."""


def save(folder: Path, step: int, learner: Learner, **options: Any) -> Path:
    snapshot = Snapshot(
        step=step,
        save_model=partial(save_policy, learner.model, train_tokenizer(["a room"], TOKENS)),
        save_learner=learner.save,
        trainer_state={"rollout_step": step},
        random_state=random_state(),
        config_text="seed: 0\n",
    )
    return save_checkpoint(folder, snapshot, **options)


def learner_on(model: Any, seed: int = 0) -> Learner:
    return Learner(model, SETTINGS, LearnerContext(total_steps=20, seed=seed))


def test_a_restored_run_continues_bit_for_bit(
    tmp_path: Path, tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    learner = learner_on(tiny_model(dtype=torch.float32, vocab_size=TOKENS))
    learner.update(random_samples(6, seed=1))
    path = save(tmp_path, 1, learner)
    drawn = (random.random(), np.random.rand(), torch.rand(()).item())
    metrics = [learner.update(random_samples(6, seed=seed)) for seed in (2, 3)]

    state = load_checkpoint(path)
    assert state.trainer_state == {"rollout_step": 1}
    resumed = learner_on(load_policy(str(state.model_folder), torch.float32)[0], seed=99)
    resumed.load(state.learner_folder)
    state.restore_random_state()
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == drawn
    again = [resumed.update(random_samples(6, seed=seed)) for seed in (2, 3)]
    for a, b in zip(metrics, again, strict=True):
        assert {**a, **WALL} == {**b, **WALL}
    assert resumed.optimizer_steps_taken == learner.optimizer_steps_taken == 6
    for name, tensor in learner.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_the_latest_is_the_last_whole_one(tmp_path: Path, tiny_model: MakeModel) -> None:
    stage = StageLayout(tmp_path)
    assert stage.whole_checkpoints() == []
    learner = learner_on(tiny_model(dtype=torch.float32))
    second, tenth = save(tmp_path, 2, learner), save(tmp_path, 10, learner)
    assert stage.whole_checkpoints() == [second, tenth]
    (tenth / "random.pt").unlink()
    assert stage.whole_checkpoints() == [second]
    with pytest.raises(ValueError, match=r"step-000010: random.pt missing; remove the folder"):
        load_checkpoint(tenth)


def test_a_save_that_fails_leaves_the_one_before(
    tmp_path: Path, tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_on(tiny_model(dtype=torch.float32))
    first = save(tmp_path, 1, learner)

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(learner, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, learner)
    assert [path.name for path in first.parent.iterdir()] == ["step-000001"]


@pytest.mark.parametrize("ending", [".unfinished-77", ".unfinished-replaced", ".tmp-77"])
def test_leftovers_of_a_kill_do_not_count_and_the_next_save_deletes_them(
    ending: str, tmp_path: Path, tiny_model: MakeModel
) -> None:
    learner = learner_on(tiny_model(dtype=torch.float32))
    first = save(tmp_path, 1, learner)
    shutil.copytree(first, first.with_name(f"step-000002{ending}"))
    assert StageLayout(tmp_path).whole_checkpoints() == [first]
    save(tmp_path, 2, learner)
    assert sorted(p.name for p in first.parent.iterdir()) == ["step-000001", "step-000002"]


def test_the_files_have_the_names_of_the_first_version(
    tmp_path: Path, tiny_model: MakeModel
) -> None:
    # Old runs resume, so these names do not change.
    path = save(tmp_path, 3, learner_on(tiny_model(dtype=torch.float32)))
    assert path == tmp_path / "checkpoints" / "step-000003"
    names = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert names >= {
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "learner/learner.json",
        "random.pt",
        "state.json",
        "config.yaml",
    }


def test_a_step_saved_again_is_replaced_and_old_ones_go(
    tmp_path: Path, tiny_model: MakeModel
) -> None:
    learner = learner_on(tiny_model(dtype=torch.float32))
    for step in (1, 2, 3, 3):
        path = save(tmp_path, step, learner, keep=2)
    assert sorted(p.name for p in path.parent.iterdir()) == ["step-000002", "step-000003"]
    assert (path / "config.yaml").read_text() == "seed: 0\n"


@pytest.mark.parametrize("name", ["random.pt", "state.json"])
def test_a_cut_file_is_named_and_so_is_the_checkpoint_before(
    name: str, tmp_path: Path, tiny_model: MakeModel
) -> None:
    learner = learner_on(tiny_model(dtype=torch.float32))
    first, second = save(tmp_path, 1, learner), save(tmp_path, 2, learner)
    for path, way_out in (
        (second, f"remove the folder {second} to resume from the one before, step-000001"),
        (first, f"remove the folder {first} to start again, as there is none before it"),
    ):
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) // 2])
        said = rf"^{path}/{name}: (damaged|cut off).*; {way_out}$"
        with pytest.raises(ValueError, match=said):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda file: os.truncate(file, 1000),
            r"model/model\.safetensors: cut off, its 1,000 bytes",
        ),
        (lambda file: file.unlink(), r"model: holds no weights \(model\.safetensors"),
    ],
)
def test_a_damaged_model_offers_the_checkpoint_before(
    damage: Callable[[Path], object], message: str, tmp_path: Path, tiny_model: MakeModel
) -> None:
    learner = learner_on(tiny_model(dtype=torch.float32))
    save(tmp_path, 1, learner)
    path = save(tmp_path, 2, learner)
    require_whole_model(path)
    damage(path / "model" / "model.safetensors")
    with pytest.raises(ValueError, match=rf"step-000002.*{message}") as error:
        require_whole_model(path)
    way_out = f"or remove the folder {path} to resume from the one before, step-000001"
    assert way_out in str(error.value)
    with pytest.raises(ValueError, match="or remove the folder"):
        load_checkpoint(path)


def test_a_damaged_adapter_offers_the_checkpoint_before(
    tmp_path: Path, tiny_model: MakeModel
) -> None:
    path = save(tmp_path, 2, learner_on(tiny_model(dtype=torch.float32)))
    (path / "model" / "adapter").mkdir()
    with pytest.raises(ValueError, match=r"adapter_config\.json: missing.*remove the folder"):
        require_whole_model(path)
