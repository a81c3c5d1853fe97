"""With `serving.deterministic`, two runs of one seed are the same run."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import Config
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_trajectories, trajectory_record
from agent_rl.trainer import Trainer
from rollouts.processes.ray_processes import start_ray, stop_ray
from tests.builders.runs import reproducible_metrics

pytestmark = [pytest.mark.engine, pytest.mark.slow]
STEPS = 2


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
                "heads": 1,
                "kv_heads": 1,
                "intermediate_size": 128,
                "context_length": 1024,
                "corpus_tasks": 4,
                **more.pop("model", {}),
            },
            # The first prompt is longer than a tile of attention, so that with the prefix cache
            # the first member of a group would round otherwise than the others.
            "prompt": {"system": "Guess the number in as few guesses as you can. " * 12},
            "episode": {"max_turns": 30, "max_action_tokens": 16, "invalid_action_penalty": 0.05},
            "serving": {"deterministic": True, "kv_cache_gib": 0.25, "max_concurrent": 16},
            "sft": {
                "episodes": 60,
                "observation_epochs": 1,
                "epochs": 2,
                "batch_episodes": 4,
                "learning_rate": 3e-3,
            },
            "learner": {"optimizer_steps": 2, "learning_rate": 1e-3, "threads": 2},
            "train": {
                "rollout_steps": STEPS,
                "tasks_per_step": 3,
                "num_generations": 4,
                "checkpoint_every": 1,
            },
            **more,
        }
    )


def episodes_of(folder: Path, step: int) -> list[dict[str, Any]]:
    seconds = {"env_seconds", "policy_seconds"}
    episodes = load_trajectories(RunLayout(folder).train.step_episodes(step))
    records = [trajectory_record(episode) for episode in episodes]
    for record in records:
        for turn in record["turns"]:
            # A resumed run counts the versions of its weights from 0 again.
            del turn["policy_version"]
    return [{k: v for k, v in record.items() if k not in seconds} for record in records]


def metrics_of(folder: Path) -> list[dict[str, float]]:
    return reproducible_metrics(RunLayout(folder).train)


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
    copy_without_last_step(tmp_path / "one", tmp_path / "resumed")
    Trainer(config(tmp_path / "resumed", 0, model=start)).train(resume=True)
    for step in range(1, STEPS + 1):
        of = {name: episodes_of(tmp_path / name, step) for name in (*runs, "resumed")}
        assert of["two"] == of["one"]
        assert of["two"] == of["resumed"]
        assert of["two"] != of["other"]
    two, one, resumed = (metrics_of(tmp_path / name) for name in ("two", "one", "resumed"))
    for step in range(STEPS):
        assert differing(two[step], one[step]) == {}
        assert differing(two[step], resumed[step]) == {}
    # There was something to learn, so the policy of the second step is not that of the first.
    assert two[0]["learner/grad_norm"] > 0


def copy_without_last_step(run: Path, to: Path) -> None:
    """Copy a run as if it had been killed before its last checkpoint."""
    shutil.copytree(run, to)
    shutil.rmtree(RunLayout(to).train.checkpoint(STEPS))


def differing(a: dict[str, float], b: dict[str, float]) -> dict[str, tuple[float | None, ...]]:
    return {key: (a.get(key), b.get(key)) for key in {*a, *b} if a.get(key) != b.get(key)}
