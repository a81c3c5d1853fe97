"""`agent-rl bench soak`: growth by hand, the picture, and a short soak of a real training run."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.bench.soak import draw, growth, readings, table
from agent_rl.commands.bench.soak_samples import Sample
from tests.builders.command_line import CommandLine
from tests.builders.models import save_policy


def _samples(memory: list[float]) -> list[Sample]:
    """A sample a minute."""
    return [
        Sample(
            seconds=60.0 * minute,
            steps=minute,
            processes=3,
            memory_mib={"driver": 100.0, "LearnerRank": mib},
            open_files=7,
            threads=9,
            shared_memory_mib=1.0,
            ray_mib=2.0,
            run_mib=float(minute),
        )
        for minute, mib in enumerate(memory)
    ]


def test_growth_after_the_warm_up_by_hand() -> None:
    # The first 5 of 20 minutes do not count; then 1 MiB comes with each minute.
    samples = _samples([900.0] * 5 + [200.0 + minute for minute in range(15)])
    grown = growth(samples, lambda sample: sample.memory_mib["LearnerRank"])
    assert (grown.first, grown.last, grown.most) == (201.0, 213.0, 900.0)
    assert grown.hourly == pytest.approx(60.0)
    assert not grown.flat


def test_noise_is_flat() -> None:
    samples = _samples([200.0 + minute % 2 for minute in range(40)])
    assert growth(samples, lambda sample: sample.memory_mib_all).flat


def test_the_table_has_each_kind_of_process() -> None:
    samples = _samples([200.0] * 8)
    labels = list(table(samples).columns[0].cells)
    assert labels[:3] == ["memory, MiB", "memory of LearnerRank, MiB", "memory of driver, MiB"]
    assert len(labels) == len(readings(samples)) == 9
    flat = dict(zip(labels, table(samples).columns[-1].cells, strict=True))
    assert (flat["memory, MiB"], flat["run folder, MiB"]) == ("yes", "no")


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    draw(_samples([200.0] * 8), tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_a_command_that_ends_at_once_is_told(tmp_path: Path, command_line: CommandLine) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"run_folder: {tmp_path}/run\n")
    ended = command_line("bench", "soak", config, "--minutes", 1, "--every", 0.5)
    assert ended.status == 2
    assert "the training's exit status is 2" in ended.err


@pytest.mark.slow
def test_a_short_soak(tmp_path: Path, command_line: CommandLine) -> None:
    record, picture, config = tmp_path / "s.json", tmp_path / "s.png", tmp_path / "c.yaml"
    model = save_policy(tmp_path / "policy", 0)
    config.write_text(
        f"run_folder: {tmp_path}/run\n"
        f"model: {{path: {model}}}\n"
        "env: {id: guess-the-number, train_split: train}\n"
        "prompt: {format: plain}\n"
        "episode: {max_turns: 3, max_action_tokens: 4}\n"
        "workers: {count: 1, envs_per_worker: 8}\n"
        "serving: {kv_cache_gib: 0.1, max_concurrent: 8}\n"
        "train: {rollout_steps: 10000, tasks_per_step: 2, num_generations: 4}\n"
    )
    arguments = ("--minutes", 1.5, "--every", 2, "--json", record, "--png", picture)
    ended = command_line("bench", "soak", config, *arguments)
    assert ended.status == 0, ended.err
    kept = json.loads(record.read_text())
    assert kept["samples"][-1]["steps"] >= 1
    assert {"driver", "LearnerRank", "PolicyActor", "RolloutWorker", "Ray's own"} <= set(
        kept["samples"][-1]["memory_mib"]
    )
    assert kept["leftovers"]["status"] == 143
    assert kept["leftovers"]["processes"] == []
    assert picture.is_file()
