"""`agent-rl bench replay`: one batch for all objectives."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_rl.commands.bench.replay import bench_replay, groups_in, read_replay
from agent_rl.commands.bench.replay_results import ReplayResults
from agent_rl.config import ConfigError
from agent_rl.objective.presets import PRESETS
from agent_rl.runs.trajectories import write_trajectories
from envs import Task
from rollouts import Trajectory
from rollouts.types import StopReason
from tests.builders.command_line import CommandLine
from tests.builders.episodes import trajectory, turn
from tests.builders.models import save_policy

TASKS = [Task(env_id="e", split="s", family="f", id=f"t{number}") for number in range(3)]


def batch() -> list[Trajectory]:
    """Three groups of four episodes of two turns; half of each group succeeds."""
    rng = random.Random(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(5, 40) for _ in range(count))

    episodes = []
    for task in TASKS:
        prompt = ids(4)
        for number in range(4):
            turns = (turn(prompt, ids(2 + number)), turn(ids(2), ids(3)))
            end = StopReason.SUCCESS if number % 2 else StopReason.FAILURE
            won = turn(ids(1), ids(2), reward=float(number % 2))
            episodes.append(trajectory(*turns, won, task=task, stop_reason=end))
    return episodes


def config_in(folder: Path, **changes: Any) -> Path:
    """A config with a policy of random weights, in a world that no test of this file plays."""
    values: dict[str, Any] = {
        "run_folder": str(folder / "run"),
        "model": {"path": str(save_policy(folder / "policy", 0))},
        "env": {"id": "guess-the-number"},
        "prompt": {"format": "plain"},
        "episode": {"max_turns": 3, "max_action_tokens": 4},
        "workers": {"count": 1, "envs_per_worker": 8},
        "serving": {"kv_cache_gib": 0.1, "max_concurrent": 8},
        "learner": {"optimizer_steps": 3, "learning_rate": 1e-2, "importance": "none"},
        "train": {"tasks_per_step": 3, "num_generations": 4},
        **changes,
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def replayed(
    path: Path, objectives: str | None, *, seeds: tuple[int, ...] = (0, 1)
) -> ReplayResults:
    bench = read_replay(str(path), (), objectives=objectives, seeds=seeds, tasks=0, episodes=None)
    return bench_replay(bench)


def test_objectives_see_the_same_data_and_seeds_are_its_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_in(tmp_path)
    write_trajectories(tmp_path / "run/replay.jsonl.gz", batch())
    results = replayed(path, "gmpo,grpo,reinforce")
    printed = " ".join(capsys.readouterr().out.split())
    assert "12 episodes in 3 groups from" in printed
    # The stored log-probs are made up.
    assert "another policy played them" in printed
    assert [(run.arm, run.seed) for run in results.runs] == [
        (arm, seed) for arm in ("gmpo", "grpo", "reinforce") for seed in (0, 1)
    ]
    gmpo, other_order, grpo = (run.metrics for run in results.runs[:3])
    assert gmpo["optimizer_steps"] == 3
    # Before any step all ratios are 1, where both are the same; REINFORCE has another divisor.
    assert gmpo["cosine_at_start"] == pytest.approx(1.0, abs=1e-5)
    assert results.runs[4].metrics["cosine_at_start"] < 0.999
    assert grpo["probe_cosine"] == pytest.approx(1.0, abs=1e-5)
    assert gmpo["probe_cosine"] < 1.0
    assert gmpo["log_ratio_rms"] != other_order["log_ratio_rms"]
    assert gmpo["trained_tokens"] == grpo["trained_tokens"] == other_order["trained_tokens"]
    assert gmpo["entropy_change"] != 0.0
    again = replayed(path, "gmpo", seeds=(1,))
    for name in ("log_ratio_rms", "entropy_change", "grad_norm"):
        assert again.runs[0].metrics[name] == other_order[name]


def test_a_loss_that_is_not_finite_ends_its_run_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = {"optimizer_steps": 3, "learning_rate": 1e-2, "old_logprobs": "sampler"}
    path = config_in(tmp_path, learner=sampler)
    episodes = batch()
    first = episodes[1].turns[0]
    far = turn(
        first.prompt_token_ids,
        first.completion.token_ids,
        logprobs=(-1000.0,) * len(first.completion.token_ids),
    )
    episodes[1] = trajectory(far, *episodes[1].turns[1:], task=episodes[1].task)
    write_trajectories(tmp_path / "run/replay.jsonl.gz", episodes)
    results = replayed(path, "gmpo,reinforce", seeds=(0,))
    gmpo, reinforce = results.runs
    assert gmpo.error == ""
    assert "optimizer step" in reinforce.error
    assert reinforce.metrics == {}
    assert results.over_orders("reinforce", "log_ratio_rms") is None
    printed = " ".join(capsys.readouterr().out.split())
    assert "note: reinforce, seed 0, ended early: the loss of optimizer step" in printed


def test_groups_are_neighbours_of_one_task() -> None:
    a, b = (trajectory(turn(), task=task) for task in TASKS[:2])
    groups = groups_in([a, a, b, a])
    assert [(group.task.id, len(group.trajectories)) for group in groups] == [
        ("t0", 2),
        ("t1", 1),
        ("t0", 1),
    ]


def test_variants_are_those_of_the_sweep_or_all_objectives(tmp_path: Path) -> None:
    def arms(objectives: str | None = None, **changes: Any) -> list[str]:
        path = config_in(tmp_path, **changes)
        read = read_replay(str(path), (), objectives=objectives, seeds=(0,), tasks=5, episodes=None)
        assert read.config.evaluation.tasks == 5
        return list(read.arms)

    assert arms() == list(PRESETS)
    assert arms("grpo,gspo") == ["grpo", "gspo"]
    wide = {"learner.clip": "log", "learner.epsilon": 0.4}
    # A grid varies the batch, so it does not count here.
    sweep = {
        "variants": {"gmpo": {}, "wide": {"learner.objective": "grpo", **wide}},
        "grid": {"train.look_ahead": [0, 1]},
    }
    assert arms(sweep=sweep) == ["gmpo", "wide"]
    for key, value in {"train.temperature": 0.5, "learner.optimizer_steps": 2}.items():
        odd = {"variants": {"gmpo": {}, "odd": {key: value}}}
        with pytest.raises(ConfigError, match=rf"sweep\.variants\.odd: {key}: a replay has one"):
            arms(sweep=odd)


def test_a_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    path = config_in(
        tmp_path,
        train={"tasks_per_step": 2, "num_generations": 4},
        evaluation={"split": "valid"},
    )
    write_trajectories(tmp_path / "run/replay.jsonl.gz", batch())
    with pytest.raises(
        ConfigError, match=r"holds 3 groups, and train\.tasks_per_step is 2; delete"
    ):
        replayed(path, "gmpo")


@pytest.mark.slow
@pytest.mark.engine
def test_the_batch_is_played_once_and_each_policy_evaluated(
    tmp_path: Path, command_line: CommandLine
) -> None:
    path = config_in(
        tmp_path,
        train={"tasks_per_step": 2, "num_generations": 4},
        evaluation={"split": "valid"},
    )
    options = ("--objectives", "gmpo", "--seeds", "0", "--tasks", 3)
    record, picture = tmp_path / "r.json", tmp_path / "r.png"
    ended = command_line("bench", "replay", path, *options, "--json", record, "--png", picture)
    assert ended.status == 0, ended.err
    assert "8 episodes in 2 groups from" in ended.out
    found = yaml.safe_load(record.read_text())
    assert found["start"]["games"] == found["variants"]["gmpo"]["success"]["games"] == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run/replay.jsonl.gz").is_file()
