"""`agent-rl play` as a person meets it: lines in, text out, and a file that loads back."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from agent_rl.commands.play.episode import choose_task, config_to_play
from agent_rl.commands.play.person import Game
from agent_rl.config import ConfigError
from agent_rl.config.model import ModelSettings
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import save_policy
from agent_rl.runs.trajectories import load_trajectories
from envs import Task, TextEnv
from rollouts import EpisodeSettings, StopReason, Trajectory
from tests.builders.paths import ROOT

NUMBER = "tests.builders.number_env:NumberEnv"
CONFIG = f"""
run_folder: run
env: {{id: "{NUMBER}"}}
serving: {{kv_cache_gib: 0.1}}
evaluation: {{split: train, temperature: 1.0}}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent_rl.cli", "play", *arguments]


def environment() -> dict[str, str]:
    path = str(ROOT)
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", "TERM": "dumb"}


def run(folder: Path, *arguments: str, typed: str = "", status: int = 0) -> str:
    """What `agent-rl play` prints in `folder` when `typed` is its input; its error where it must
    end with one.
    """
    process = subprocess.run(
        command(*arguments),
        input=typed,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == status, process.stderr
    return process.stderr if status else process.stdout


def saved(folder: Path) -> Trajectory:
    (path,) = (folder / "runs" / "play").iterdir()
    (episode,) = load_trajectories(path)
    return episode


def test_a_person_plays_by_number_and_name_and_takes_steps_back(tmp_path: Path) -> None:
    typed = "\n5\n99\nundo\nlook\nundo\nundo\nguess 2\nhistory\n8\n"
    shown = run(tmp_path, NUMBER, "--task", "number-7", typed=typed)
    assert "task number-7   (train, odd)" in shown
    assert "  1 guess 0" in shown
    assert "there are 11 commands" in shown
    assert shown.count("Nothing happens.") == 1
    assert "there is nothing to take back" in shown
    assert "    > guess 7\n" in shown
    assert "= success, 2 turns, return +1.00" in shown
    episode = saved(tmp_path)
    assert [turn.action.command for turn in episode.turns] == ["guess 2", "guess 7"]
    assert [turn.observation for turn in episode.turns] == ["Guess my number.", "Higher."]
    assert (episode.success, episode.turns[1].reward) == (True, 1.0)


@pytest.mark.parametrize("typed", ["guess 1\nquit\n", "guess 1"])
def test_who_leaves_keeps_what_was_played(tmp_path: Path, typed: str) -> None:
    assert "= quit, 1 turns" in run(
        tmp_path, NUMBER, "--task", "number-7", "--save", "kept.jsonl", typed=typed
    )
    (episode,) = load_trajectories(tmp_path / "kept.jsonl")
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.QUIT, 1)


def at_terminal(
    folder: Path, *arguments: str, typed: bytes, interrupt_at: bytes | None = None
) -> str:
    """What stands on a terminal in the end, where `typed` was typed ahead, and Ctrl-C when
    `interrupt_at` came up.
    """
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env=environment(),
        # Where the tests run in the background, a shell has them ignore Ctrl-C, and their children
        # inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(terminal)
    os.write(person, typed)
    shown = b""
    with suppress(OSError):  # how Linux says that the other side has gone
        while part := os.read(person, 4096):
            shown += part
            if interrupt_at is not None and interrupt_at in shown:
                process.send_signal(signal.SIGINT)
                os.write(
                    person, b"\n"
                )  # readline looks for signals only when it waits, which it may be about to do
                interrupt_at = None
    assert process.wait(60) == 0, shown
    os.close(person)
    return shown.decode()


def test_tab_completes_at_a_terminal(tmp_path: Path) -> None:
    at_terminal(tmp_path, NUMBER, "--task", "number-7", typed=b"thi\t\nguess 7\n")
    assert [turn.action.command for turn in saved(tmp_path).turns] == ["think", "guess 7"]


def test_ctrl_c_at_the_prompt_leaves_and_keeps_what_was_played(tmp_path: Path) -> None:
    shown = at_terminal(
        tmp_path, NUMBER, "--task", "number-7", typed=b"guess 1\n", interrupt_at=b"2 (return"
    )
    assert "= quit, 1 turns" in shown
    assert [turn.action.command for turn in saved(tmp_path).turns] == ["guess 1"]


def test_a_shown_episode_waits_for_enter_until_the_input_ends(tmp_path: Path) -> None:
    shown = at_terminal(
        tmp_path, NUMBER, "--policy", "expert", "--task", "number-6", typed=b"\n\x04"
    )
    assert shown.count("(Enter)") == 2
    assert "= success, 4 turns" in shown


def test_the_expert_is_shown_step_by_step(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    shown = run(
        tmp_path, "c.yaml", "episode.reward_scale=2", "--policy", "expert", "--task", "number-7"
    )
    assert shown.splitlines()[1:6] == [
        "    Guess my number.",
        "  1 > guess 4",
        "    Higher.",
        "  2 > guess 7   reward +1.00",
        "    Right!",
    ]
    assert saved(tmp_path).episode_return == 2.0


def test_chance_plays_with_options_and_a_turn_limit(tmp_path: Path) -> None:
    arguments = (NUMBER, "list_commands=false", "--policy", "random", "--turns", "2", "--seed", "1")
    first, again = (run(tmp_path, *arguments, "--save", "s.jsonl") for _ in range(2))
    assert first == again
    one, two = load_trajectories(tmp_path / "s.jsonl")
    assert one.turns == two.turns
    assert (one.stop_reason, len(one.turns)) == (StopReason.MAX_TURNS, 2)


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
    shown = run(
        tmp_path,
        "c.yaml",
        "--policy",
        "policy",
        "--turns",
        "2",
        "--seed",
        "3",
        "--task",
        "number-7",
    )
    episode = saved(tmp_path)
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.MAX_TURNS, 2)
    assert all(x < 0.0 for turn in episode.turns for x in turn.completion.logprobs)
    assert shown.count("    Nothing happens.") == 2
    assert "= max_turns, 2 turns" in shown


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "did you mean 'number-7'" in run(tmp_path, NUMBER, "--task", "numbr-7", status=2)
    assert "there is only train" in run(tmp_path, NUMBER, "--split", "test", status=2)
    assert "did you mean 'expert'?" in run(tmp_path, NUMBER, "--policy", "expret", status=2)
    assert "'expart'; did you mean 'expert'?" in run(tmp_path, NUMBER, "expart=true", status=2)
    assert not (tmp_path / "runs").exists()


class Stairs(TextEnv):
    """Ten steps up; every `up` is worth 1."""

    copies = True

    def tasks(self, split: str) -> list[Task]:
        return [Task(env_id="stairs", split=split, family="f", id=f"stairs-{n}") for n in range(20)]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self.height = 0
        return "0", {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.height += action == "up"
        return (
            str(self.height),
            float(action == "up"),
            self.height == 10,
            False,
            {"success": self.height == 10},
        )

    def clone(self) -> Self:
        if not self.copies:
            raise NotImplementedError
        return super().clone()


class OneWay(Stairs):
    copies = False


@pytest.mark.parametrize("env", [Stairs(), OneWay()])
def test_undo_is_the_same_with_and_without_copies(env: Stairs) -> None:
    game = Game(env, env.tasks("train")[0], EpisodeSettings())
    game.start()
    assert not game.undo()
    for word in ("up", "stay", "up", "up"):
        game.do(word)
    assert game.undo()
    assert game.undo()
    game.do("wait")
    game.do("up")
    episode = game.record.end(StopReason.MAX_TURNS)
    assert [turn.action.text for turn in episode.turns] == ["up", "stay", "wait", "up"]
    assert [turn.observation for turn in episode.turns] == ["0", "1", "1", "1"]
    assert (episode.final_observation, episode.episode_return) == ("2", 2.0)
    assert (
        bytes(i for i in episode.token_ids if i < 256).decode()
        == "0\n> up\n1\n> stay\n1\n> wait\n1\n> up"
    )


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
