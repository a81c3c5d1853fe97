"""`agent-rl bench sync`: rates by hand, the sizes of SmolLM2, and one run with a real engine."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.bench import sync
from agent_rl.commands.bench.small_policy import small_config
from agent_rl.commands.bench.sync import ModelSyncs, SyncTime, table
from tests.builders.command_line import CommandLine
from tests.builders.models import save_policy


def test_rates_by_hand() -> None:
    updates = [SyncTime(write=w, reload=1.0, copy=0.5) for w in (1.0, 3.0, 9.0)]
    row = ModelSyncs(
        model="m", parameters=1, gigabytes=2.0, folder="f", node="same", updates=updates
    )
    record = row.record()
    assert record["seconds"] == {"write": 3.0, "reload": 1.0, "whole": 4.0, "copy": 0.5}
    rates = {"write": pytest.approx(2 / 3), "reload": 2.0, "whole": 0.5, "copy": 4.0}
    assert record["gigabytes_per_second"] == rates
    assert list(table([row]).columns[1].cells)[-1] == "8.0"


@pytest.mark.process
def test_the_shape_of_smollm2(tmp_path: Path) -> None:
    config = small_config(tmp_path, sync._WORLD)
    model, tokenizer = sync._policy(sync._SMOLLM2, config, named=False)
    # As published: https://huggingface.co/HuggingFaceTB/SmolLM2-135M.
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    assert model.config.tie_word_embeddings
    assert len(tokenizer) < model.config.vocab_size == 49_152


@pytest.mark.engine
def test_an_update_is_timed(tmp_path: Path, command_line: CommandLine) -> None:
    model, record = save_policy(tmp_path / "policy", 0), tmp_path / "b.json"
    ended = command_line("bench", "sync", "--model", model, "--repeats", 2, "--json", record)
    assert ended.status == 0, ended.err
    (row,) = json.loads(record.read_text())
    assert (row["model"], row["node"], len(row["updates"])) == (str(model), "same", 2)
    assert all(seconds > 0 for seconds in row["seconds"].values())
    # 128 KB or 256 KB of weights: bfloat16 or float32.
    assert 1e-4 < row["gigabytes"] < 1e-3
    for part in ("write the copy", "load it into the engine", "a plain copy"):
        assert f"{part}, GB/s" in ended.out
