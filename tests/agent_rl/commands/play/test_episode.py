"""`agent-rl play`: tasks, options, players, and the saved episode."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_rl.commands.play.episode import choose_task, config_to_play
from agent_rl.commands.play.episode import play as play_episode
from agent_rl.config import ConfigError
from agent_rl.config.model import ModelSettings
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.saving import save_policy
from agent_rl.runs.trajectories import load_trajectories
from rollouts import StopReason, Trajectory
from tests.builders.paths import ROOT
from tests.builders.play import CONFIG, NUMBER, Play, Stairs, saved


def test_chance_plays_with_options_and_a_turn_limit(play: Play, tmp_path: Path) -> None:
    arguments = (NUMBER, "list_commands=false", "--policy", "random", "--turns", "2", "--seed", "1")
    first, again = (play(*arguments, "--save", "s.jsonl") for _ in range(2))
    assert first == again
    one, two = load_trajectories(tmp_path / "s.jsonl")
    assert one.turns == two.turns
    assert (one.stop_reason, len(one.turns)) == (StopReason.MAX_TURNS, 2)


@pytest.mark.engine
def test_a_checkpoint_plays_in_this_process(tmp_path: Path) -> None:
    """A real engine, without Ray."""
    settings = ModelSettings(
        vocab_size=300, hidden_size=32, layers=1, heads=1, kv_heads=1, intermediate_size=64
    )
    tokenizer = train_tokenizer(
        ["Guess my number.", "guess 1", "Nothing happens."], settings.vocab_size
    )
    save_policy(init_model(settings, tokenizer), tokenizer, tmp_path / "policy")
    (tmp_path / "c.yaml").write_text(CONFIG)
    options = ("--policy", "policy", "--turns", "2", "--seed", "3", "--task", "number-7")
    # In another process: the engine changes global state that other tests see.
    ended = subprocess.run(
        [sys.executable, "-m", "agent_rl.cli", "play", "c.yaml", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    shown = ended.stdout
    episode = saved(tmp_path)
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.MAX_TURNS, 2)
    assert all(x < 0.0 for turn in episode.turns for x in turn.completion.logprobs)
    assert shown.count("    Nothing happens.") == 2
    assert "= max_turns, 2 turns" in shown


def test_what_does_not_exist_is_named(play: Play, tmp_path: Path) -> None:
    assert "did you mean 'number-7'" in play(NUMBER, "--task", "numbr-7", status=2)
    assert "there is only train" in play(NUMBER, "--split", "test", status=2)
    assert "did you mean 'expert'?" in play(NUMBER, "--policy", "expret", status=2)
    assert "'expart'; did you mean 'expert'?" in play(NUMBER, "expart=true", status=2)
    assert not (tmp_path / "runs").exists()


def test_a_task_is_drawn_by_seed_or_found_by_id() -> None:
    drawn = {choose_task(Stairs(), "train", None, seed).id for seed in range(50)}
    assert len(drawn) > 10
    assert choose_task(Stairs(), "train", None, 3) == choose_task(Stairs(), "train", None, 3)
    assert choose_task(Stairs(), "train", "stairs-4", 0).id == "stairs-4"
    with pytest.raises(
        ConfigError, match=r"'airs-1': not among the 20 .*'stairs-1', 'stairs-10', 'stairs-11'"
    ):
        choose_task(Stairs(), "train", "airs-1", 0)


def test_options_of_an_environment_may_be_nested() -> None:
    config, from_file = config_to_play(
        "alfworld", ["games.train=5", "games.scenes=[3, 4]", "data=generated"]
    )
    assert config.env.options == {"games": {"train": 5, "scenes": [3, 4]}, "data": "generated"}
    assert not from_file
    for wrong, message in (
        (["train"], "write key=value"),
        (["games=3", "games.train=4"], "'games' is a value, not a section"),
        (["games=["], "not valid YAML"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_to_play("alfworld", wrong)


def test_it_plays_within_a_notebooks_loop(tmp_path: Path) -> None:
    async def cell() -> Trajectory:
        return play_episode(NUMBER, [], policy="random", seed=1, save=tmp_path / "s.jsonl")

    assert asyncio.run(cell()).turns
