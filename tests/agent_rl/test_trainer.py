"""A whole run from Python, with a learner of two ranks that is resumed by one."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.report import read_report
from agent_rl.policy.loading import load_policy
from agent_rl.runs.ending import read_end
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_trajectories
from agent_rl.trainer import Trainer
from agent_rl.training.warm_start import planned_steps
from rollouts.processes.ray_processes import start_ray, stop_ray
from tests.builders.runs import logged_steps

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(autouse=True)
def ray() -> Iterator[None]:
    """One Ray for all stages: each would start its own, which takes ten seconds."""
    start_ray()
    yield
    stop_ray()


def config(folder: Path, *, ranks: int, steps: int) -> Config:
    return Config.model_validate(
        {
            "run_folder": str(folder),
            "env": {"id": "guess-the-number"},
            "model": {
                "vocab_size": 400,
                "hidden_size": 64,
                "layers": 1,
                "heads": 2,
                "kv_heads": 2,
                "corpus_tasks": 4,
            },
            "episode": {"max_turns": 4, "max_action_tokens": 8},
            "workers": {"count": 1, "envs_per_worker": 8},
            "serving": {"kv_cache_gib": 0.1, "max_concurrent": 8},
            "sft": {
                "episodes": 32,
                "epochs": 6,
                "batch_episodes": 4,
                "learning_rate": 1e-2,
                "own_rounds": 2,
                "own_episodes": 8,
                "own_replay": False,
            },
            "learner": {
                "optimizer_steps": 2,
                "learning_rate": 1e-3,
                "ranks": ranks,
                "threads": 1,
                # Trains also if every episode is lost: then all advantages are 0.
                "entropy_bonus": 1e-3,
            },
            "train": {
                "rollout_steps": steps,
                "tasks_per_step": 2,
                "num_generations": 4,
                "checkpoint_every": 1,
            },
            "evaluation": {"split": "valid", "tasks": 4},
        }
    )


def test_a_run_of_two_ranks_is_resumed_by_one_and_exported(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path / "run", ranks=1, steps=2))

    async def cell() -> Path:
        """A notebook runs each cell in an event loop."""
        return trainer.warm_start()

    assert asyncio.run(cell()).is_dir()
    stage = RunLayout(tmp_path / "run").sft
    for number in (1, 2):
        own = load_trajectories(stage.own_episodes(number))
        assert len(own) == 8
        assert all(turn.advice for episode in own for turn in episode.turns)
        # The weights that the learner had by then.
        versions = {turn.completion.policy_version for episode in own for turn in episode.turns}
        assert versions == {number - 1}
    steps = planned_steps(trainer.config.sft, len(load_trajectories(stage.expert_episodes)))
    assert logged_steps(stage) == list(range(1, steps + 1))
    Trainer(config(tmp_path / "run", ranks=2, steps=1)).train()
    assert trainer.train(resume=True).name == "step-000002"
    end = read_end(RunLayout(tmp_path / "run"))
    assert end is not None
    assert (end.state, end.reason) == ("finished", "")
    lines = (tmp_path / "run" / "train" / "metrics.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["step"], second["step"]) == (1, 2)
    assert first["learner/optimizer_steps"] == 2
    assert first["learner/trained_tokens"] > 0
    # What sampled step 2 is what one rank read back: the weights that two ranks had learned.
    assert 0.0 <= second["learner/mismatch_abs_mean"] < 0.05
    evaluated = trainer.evaluate(repeats=2, temperature=0.7, json=tmp_path / "r.json")
    assert (evaluated.overall.n, evaluated.overall.repeats, evaluated.setting["temperature"]) == (
        4,
        2,
        0.7,
    )
    assert read_report(tmp_path / "r.json") == evaluated
    with pytest.raises(ConfigError, match=r"split 'test': .* there are: train, valid"):
        trainer.evaluate("valid,test")
    exported = trainer.save_model(tmp_path / "policy", dtype="float32")
    model, _ = load_policy(str(exported))
    saved, _ = load_policy(
        str(tmp_path / "run" / "train" / "checkpoints" / "step-000002" / "model")
    )
    assert all((a == b).all() for a, b in zip(model.parameters(), saved.parameters(), strict=True))
