"""With `serving.deterministic`, two runs of one seed are the same run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import Config
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_trajectories, trajectory_record
from agent_rl.trainer import Trainer
from rollouts.processes.ray_processes import start_ray, stop_ray

pytestmark = [pytest.mark.engine, pytest.mark.slow]
STEPS = 2
OF_TIME = {"learner/seconds", "learner/tokens_per_second", "learner/model_flop_utilisation"}
"""Metrics of the learner that a clock gives; `OF_MEMORY` and all of `time/` differ, too."""
OF_MEMORY = {"learner/peak_memory_gib"}


@pytest.fixture(autouse=True)
def ray() -> Iterator[None]:
    """One Ray for all runs: each would start its own."""
    start_ray()
    yield
    stop_ray()


def config(folder: Path, seed: int, **more: Any) -> Config:
    return Config.model_validate(
        {
            "run_folder": str(folder),
            "seed": seed,
            "env": {"id": "guess-the-number"},
            "model": {
                "vocab_size": 400,
                "hidden_size": 64,
                "heads": 2,
                "kv_heads": 2,
                "intermediate_size": 128,
                "context_length": 1024,
                "corpus_tasks": 4,
                **more.pop("model", {}),
            },
            # Long enough that a prefix cache would change roundings.
            "episode": {"max_turns": 30, "max_action_tokens": 16, "invalid_action_penalty": 0.05},
            "serving": {"deterministic": True, "kv_cache_gib": 0.25, "max_concurrent": 16},
            "sft": {"episodes": 32, "epochs": 1, "batch_episodes": 4, "learning_rate": 3e-3},
            "learner": {"optimizer_steps": 2, "learning_rate": 1e-3, "threads": 2},
            "train": {"rollout_steps": STEPS, "tasks_per_step": 3, "num_generations": 4},
            **more,
        }
    )


def episodes_of(folder: Path, step: int) -> list[dict[str, Any]]:
    seconds = {"env_seconds", "policy_seconds"}
    episodes = load_trajectories(RunLayout(folder).train.step_episodes(step))
    records = [trajectory_record(episode) for episode in episodes]
    return [{k: v for k, v in record.items() if k not in seconds} for record in records]


def metrics_of(folder: Path) -> list[dict[str, float]]:
    lines = RunLayout(folder).train.metrics_file.read_text().splitlines()
    return [
        {
            name: value
            for name, value in json.loads(line).items()
            if not name.startswith("time/") and name not in OF_TIME | OF_MEMORY
        }
        for line in lines
    ]


@pytest.mark.timeout(1200)
def test_the_same_seed_is_the_same_run_with_any_workers(tmp_path: Path) -> None:
    policy = Trainer(config(tmp_path / "start", 0)).warm_start()
    start = {"path": str(policy)}
    runs = {
        "two": config(tmp_path / "two", 0, model=start, workers={"count": 2, "envs_per_worker": 8}),
        "one": config(tmp_path / "one", 0, model=start, workers={"count": 1, "envs_per_worker": 5}),
        "other": config(tmp_path / "other", 1, model=start),
    }
    for run in runs.values():
        Trainer(run).train()
    for step in range(1, STEPS + 1):
        episodes = {name: episodes_of(tmp_path / name, step) for name in runs}
        assert episodes["two"] == episodes["one"]
        assert episodes["two"] != episodes["other"]
    assert metrics_of(tmp_path / "two") == metrics_of(tmp_path / "one")
    # The runs have learned: the policy of the second step is not that of the first.
    assert metrics_of(tmp_path / "two")[0]["learner/grad_norm"] > 0
