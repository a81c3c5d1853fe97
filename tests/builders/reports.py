"""Runs with episodes for the tests of `agent-rl report`: real metrics, evaluations and episodes."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent_rl.evaluation.episodes import repeat_file
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.token_records import COLUMNS, SampleTokens, write_token_records
from agent_rl.runs.trajectories import (
    load_step_episodes,
    load_trajectories,
    write_trajectories,
)
from rollouts import Trajectory
from tests.builders.paths import ROOT

_PLAYED = Path(__file__).parent / "played"
"""18 episodes of the first rollout step of a run on generated games: six of each of three tasks."""
HOSTILE = "<script>document.title='gone'</script></script><b>bold</b> \x1b[31mred \u202eturned"
"""A text that would do something if a page took it for HTML, or a terminal for its own."""
HOSTILE_SHOWN = (
    "<script>document.title='gone'</script></script><b>bold</b> \\x1b[31mred \\u202eturned"
)
"""The same, as a person has to see it."""

Change = Callable[[Trajectory], Trajectory]


def real_episodes() -> list[Trajectory]:
    """The episodes, group after group."""
    return load_trajectories(_PLAYED / "alfworld.jsonl.gz")


def hostile(episode: Trajectory) -> Trajectory:
    """The episode with a first observation and an action that are HTML."""
    first = episode.turns[0]
    action = replace(first.action, text=HOSTILE, command=HOSTILE)
    turn = replace(first, observation=f"{HOSTILE}\n{first.observation}", action=action)
    return replace(episode, turns=(turn, *episode.turns[1:]))


def write_episodes(folder: Path, steps: int = 2, change: Change = lambda episode: episode) -> None:
    """Write the real episodes for each rollout step of the run in `folder`, and a tokenizer.

    Args:
        folder: the run's folder.
        steps: how many rollout steps have them.
        change: is applied to the first episode of the first step.
    """
    run = RunLayout(folder)
    for step in range(1, steps + 1):
        episodes = real_episodes()
        if step == 1:
            episodes[0] = change(episodes[0])
        write_trajectories(run.train.step_episodes(step), episodes)
    run.init.mkdir(exist_ok=True)
    tokenizer = gzip.decompress((_PLAYED / "tokenizer.json.gz").read_bytes())
    (run.init / "tokenizer.json").write_bytes(tokenizer)


def write_records(folder: Path, step: int) -> None:
    """Write numbers of the trained tokens of a rollout step, as `train.keep_token_records` does.

    Ratios of all tokens are exp(0.2), exp(-0.2), ... in turn; the first is clipped, as too high.
    The second is left out of the loss. The third group did not go through the learner.
    """
    stage = RunLayout(folder).train
    samples = []
    for name, episode in load_step_episodes(stage.step_episodes(step), step).items():
        if name.group == 3:
            continue
        tokens = sum(episode.action_mask)
        numbers = {column: np.zeros(tokens, dtype=kind) for column, kind in COLUMNS.items()}
        numbers["log_ratio"][::2], numbers["log_ratio"][1::2] = 0.2, -0.2
        numbers["entropy"] += np.arange(tokens, dtype=np.float32) / tokens
        numbers["weight"] += 1.5
        numbers["clipped"][0], numbers["weight"][0] = 2, 0.0
        numbers["left_out"][1] = True
        samples.append(SampleTokens(id=name, part=1, optimizer_step=1, numbers=numbers))
    write_token_records(stage.token_records(step), samples)


def write_evaluation(folder: Path, name: str = "step-000002-valid_seen-t0.4-1f3a9c2e") -> Path:
    """Write an evaluation of the run in `folder`: three games, each in two repeats.

    Lost, won and lost in the first repeat; won, won and lost in the second. That one ended in
    another order: its last game first.
    """
    evaluation = RunLayout(folder).evaluations / name
    episodes = real_episodes()
    write_trajectories(repeat_file(evaluation, 0), episodes[::6])
    write_trajectories(repeat_file(evaluation, 1), episodes[1::6][::-1])
    return evaluation


def real_runs(folder: Path, change: Change = lambda episode: episode) -> list[Path]:
    """Two runs of the repository's small comparison, GMPO and GRPO with seed 0; with episodes."""
    paths = []
    for name in ("gmpo-s0", "grpo-s0"):
        shutil.copytree(ROOT / "docs/results/small" / name, folder / name)
        write_episodes(folder / name, change=change)
        paths.append(folder / name)
    return paths


def facts_of(page: str) -> dict[str, object]:
    """The facts that a page gives its scripts."""
    text = page.split('id="facts"', 1)[1].split(">", 1)[1].split("</script>", 1)[0]
    facts: dict[str, object] = json.loads(text)
    return facts


def packed_in(page: str) -> dict[str, str]:
    """The packed texts of a page by name."""
    texts = {}
    for part in page.split('id="packed-')[1:]:
        name, rest = part.split('">', 1)
        texts[name] = rest.split("</script>", 1)[0]
    return texts
