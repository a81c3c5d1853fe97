"""What is fuzzed: for each area its healthy files, and the code that reads them.

An `Area` answers a damaged file with an ordinary result or with one of the errors that the command
line turns into one `error:` line. Anything else is a finding.
"""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.report import compare_folders
from agent_rl.config import load_config
from agent_rl.config.loading import dump_config, load_run_config
from agent_rl.evaluation.report import read_report
from agent_rl.policy.loading import load_policy
from agent_rl.policy.saving import save_policy
from agent_rl.runs.checkpoint import Snapshot, load_checkpoint, random_state, save_checkpoint
from agent_rl.runs.layout import RunLayout, StageLayout
from agent_rl.runs.trajectories import load_trajectories, write_trajectories
from envs import TextEnv, make_env
from rollouts.mistakes import Mistakes
from rollouts.players import make_player
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.settings import EpisodeSettings
from rollouts.types import Trajectory
from tests.builders.comparisons import write_evaluation, write_training
from tests.builders.episodes import trajectory, turn
from tests.builders.kitchen import write_kitchen
from tests.builders.models import make_model, make_tokenizer
from tests.builders.paths import ROOT
from tests.builders.runs import report
from tests.fuzz.odd_environment import OddEnv

ODD_WORDS = ("", "--", "-x", "seed=", "=1", "a.b=c", "env.id=os:system", "..", "x" * 300, "\x1b[2J")
"""Arguments that fit nowhere."""
EXPECTED = (ValueError, FloatingPointError, OSError)
"""The errors that the command line answers with one line."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """Files of one kind and their reader."""

    make: Callable[[Path], None]
    """Writes healthy files into an empty folder."""
    read: Callable[[Path, Path, random.Random], None]
    """Reads the folder as the product does; it is also told which file is damaged."""
    never_raises: bool = False
    """Whether even an expected error is a finding."""
    reads_healthy_files: bool = True
    """Whether healthy files are read without an error; else the reader adds faults of its own."""


def _make_configs(folder: Path) -> None:
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        shutil.copyfile(path, folder / path.name)


def _read_configs(folder: Path, damaged: Path, rng: random.Random) -> None:
    load = rng.choice((load_config, load_run_config))
    config = load(damaged)
    again = folder.parent / "again.yaml"
    again.write_text(dump_config(config))
    # As texts: NaN, which a sweep's values may hold, is not equal to itself.
    assert dump_config(load_config(again)) == dump_config(config)


def _make_trajectories(folder: Path) -> None:
    episodes = [trajectory(turn(), turn()), trajectory(turn())]
    for name in ("step-000001.jsonl", "step-000001.jsonl.gz"):
        write_trajectories(folder / name, episodes)


def _read_trajectories(folder: Path, damaged: Path, rng: random.Random) -> None:
    for episode in load_trajectories(damaged):
        assert len(episode.action_mask) == len(episode.token_ids)


def _make_runs(folder: Path) -> None:
    for seed in (0, 1):
        run = write_training(folder / f"run-{seed}", seed=seed, timed=True)
        write_evaluation(RunLayout(run).train.report(3), rollout_step=3)


def _read_runs(folder: Path, damaged: Path, rng: random.Random) -> None:
    out = folder.parent / "comparison"
    shutil.rmtree(out, ignore_errors=True)
    compare_folders([folder / "run-0", folder / "run-1"], to=out)


def _make_reports(folder: Path) -> None:
    report().write(folder / "report.json")


def _read_reports(folder: Path, damaged: Path, rng: random.Random) -> None:
    read_report(folder / "report.json")


def _make_models(folder: Path) -> None:
    make_model(0).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1}))


def _read_models(folder: Path, damaged: Path, rng: random.Random) -> None:
    model, _ = load_policy(str(folder))
    assert all(parameter.numel() for parameter in model.parameters())


def _make_checkpoints(folder: Path) -> None:
    def save_learner(path: Path) -> None:
        path.mkdir()
        (path / "learner.json").write_text(json.dumps({"steps": 1}))

    for step in (1, 2):
        snapshot = Snapshot(
            step=step,
            save_model=partial(save_policy, make_model(step), make_tokenizer()),
            save_learner=save_learner,
            trainer_state={"rollout_step": step, "sampler": {"position": step}},
            random_state=random_state(),
            config_text="run_folder: run\n",
        )
        save_checkpoint(folder, snapshot)


def _read_checkpoints(folder: Path, damaged: Path, rng: random.Random) -> None:
    whole = StageLayout(folder).whole_checkpoints()
    if whole:
        load_policy(str(load_checkpoint(whole[-1]).model_folder))


def _make_games(folder: Path) -> None:
    write_kitchen(folder)


def _read_games(folder: Path, damaged: Path, rng: random.Random) -> None:
    env = make_env("alfworld", data=str(folder))
    for task in env.tasks("train"):
        _, info = env.reset(seed=task.seed, options={"task": task})
        for _ in range(10):
            command = rng.choice(info["admissible_commands"])
            _, _, terminated, truncated, info = env.step(command)
            if terminated or truncated:
                break
    env.close()


def _make_everything(folder: Path) -> None:
    for name in ("runs", "games", "models"):
        (folder / name).mkdir()
    _make_runs(folder / "runs")
    _make_games(folder / "games")
    _make_models(folder / "models")
    (folder / "config.yaml").write_text(
        "run_folder: new\nenv: {id: guess-the-number}\nevaluation: {split: train}\n"
        "model: {corpus_tasks: 2, vocab_size: 300, hidden_size: 32, layers: 1, heads: 1,"
        " kv_heads: 1, intermediate_size: 32}\n"
    )


COMMANDS = (
    ("init", "files/config.yaml"),
    ("compare", "files/runs/run-0", "files/runs/run-1", "--to", "comparison"),
    ("games", "list", "files/games", "--split", "train"),
    ("games", "info", "files/games"),
    ("games", "doctor", "files/games"),
    ("export", "files/config.yaml", "--model", "files/models", "--to", "exported"),
    ("play", "files/config.yaml", "--policy", "random", "--seed", "1", "--save", "played.jsonl"),
    ("play", "alfworld", "data=files/games", "--split", "train", "--policy", "random"),
    ("play", "guess-the-number", "--policy", "expert", "--turns", "3"),
    ("envs", "check", "guess-the-number", "--tasks", "1", "--steps", "3"),
)
"""Commands that start neither Ray nor vLLM."""


def _run_command(folder: Path, damaged: Path, rng: random.Random) -> None:
    """A command ends with 0, with 1 (it found something), or with 2 and a line about an error."""
    words = list(rng.choice(COMMANDS))
    if rng.randrange(2):
        words[rng.randrange(len(words))] = rng.choice(ODD_WORDS)
    # In a process of its own: it may change the folder, the streams and the signals.
    ended = subprocess.run(
        [sys.executable, "-m", "agent_rl.cli", *words],
        cwd=folder.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AGENT_RL_CACHE": str(folder.parent / "cache"),
            "HF_HUB_OFFLINE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=170,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said, f"{words}: {said[-1500:]}"
    assert ended.returncode in (0, 1, 2), f"{words}: status {ended.returncode}: {said[-500:]}"
    if ended.returncode == 2:
        assert ended.stderr.strip(), f"{words}: status 2 without a message"
        raise ValueError(ended.stderr)


def _make_nothing(folder: Path) -> None:
    (folder / "seed.json").write_text("{}")


def _play_odd_environment(folder: Path, damaged: Path, rng: random.Random) -> None:
    """An environment that answers oddly fails its episode, and never the caller."""
    env = OddEnv(rng)
    for task in OddEnv.healthy_tasks():
        episode = asyncio.run(_episode(env, task, rng))
        assert isinstance(episode, Trajectory)
        assert episode.error or not env.odd_answers, env.odd_answers
        env.odd_answers.clear()


async def _episode(env: TextEnv, task: Any, rng: random.Random) -> Trajectory:
    return await run_scripted_episode(
        env,
        task,
        make_player("random", env, task, 0),
        byte_renderer(),
        EpisodeSettings(max_turns=4),
        mistakes=Mistakes(0.0, seed=0),
        context_length=None,
    )


AREAS: dict[str, Area] = {
    "configs": Area(make=_make_configs, read=_read_configs),
    "trajectories": Area(make=_make_trajectories, read=_read_trajectories),
    "runs": Area(make=_make_runs, read=_read_runs),
    "reports": Area(make=_make_reports, read=_read_reports),
    "models": Area(make=_make_models, read=_read_models),
    "checkpoints": Area(make=_make_checkpoints, read=_read_checkpoints),
    "games": Area(make=_make_games, read=_read_games),
    "commands": Area(make=_make_everything, read=_run_command, reads_healthy_files=False),
    "environments": Area(make=_make_nothing, read=_play_odd_environment, never_raises=True),
}
"""All areas by name."""
