"""Runs and evaluations for the tests of `agent-rl compare`, as files and as values."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.runs import NEEDED
from agent_rl.commands.compare.times import TIMES
from agent_rl.config import Config, dump_config
from agent_rl.evaluation.scores import GameScore
from agent_rl.runs.layout import RunLayout, StageLayout
from tests.builders.runs import Outcomes, report

FAMILY = "look_at_obj_in_light"


def games(outcomes: Mapping[str, str]) -> dict[str, GameScore]:
    """Games by id; an outcome has a 1 or a 0 per repeat. The family is the id's first letter."""
    by_id = {}
    for name, bits in outcomes.items():
        success = tuple(bit == "1" for bit in bits)
        by_id[name] = GameScore(id=name, family=name[0], success=success, turns=(1,) * len(bits))
    return by_id


def write_training(
    folder: Path,
    *,
    steps: int = 3,
    rollout_steps: int = 3,
    seconds: float | None = None,
    tail: str = "",
    flat: bool = False,
    timed: bool = False,
    **config: Any,
) -> Path:
    """A run's folder whose metrics are all a tenth of the rollout step; returns the folder.

    Args:
        folder: the run's folder.
        steps: lines of metrics.
        rollout_steps: the steps that the config asks for.
        seconds: `time/seconds` of each step, in place of a tenth.
        tail: text after the lines of metrics.
        flat: write the small copy of a run, without `train/`.
        timed: write the metrics of time too, which runs of earlier versions lack.
        config: values of its config.
    """
    training = StageLayout(folder) if flat else RunLayout(folder).train
    training.folder.mkdir(parents=True)
    values = {"run_folder": str(folder), "train": {"rollout_steps": rollout_steps}, **config}
    training.config_file.write_text(dump_config(Config.model_validate(values)))
    lines = []
    for step in range(1, steps + 1):
        line = {"step": step, **dict.fromkeys(NEEDED, step / 10)}
        if timed:
            line |= {metric.key: step / 10 for metric in TIMES}
        if seconds is not None:
            line["time/seconds"] = seconds
        lines.append(json.dumps(line) + "\n")
    training.metrics_file.write_text("".join(lines) + tail)
    return folder


def write_evaluation(
    path: Path,
    games: Outcomes | None = None,
    *,
    split: str = "valid_seen",
    temperature: float = 0.4,
    **setting: Any,
) -> Path:
    """An evaluation's report with the outcomes of each game; returns its file."""
    outcomes = {"a1": [True], "b1": [False]} if games is None else games
    report({split: outcomes}, temperature=temperature, **setting).write(path)
    return path


def write_alfworld_run(
    folder: Path, objective: str, seed: int, *, won: str, steps: int = 8, env: str = "alfworld"
) -> None:
    """A run of 8 rollout steps of a minute, evaluated at the end; `won` as in `alfworld_games`."""
    sections: dict[str, Any] = {"learner": {"objective": objective}, "env": {"id": env}}
    write_training(folder, steps=steps, rollout_steps=8, seconds=60.0, seed=seed, **sections)
    write_evaluation(RunLayout(folder).final_report, alfworld_games(won))


def rows_of(page: str, title: str) -> list[list[str]]:
    """The cells of the Markdown table under a heading, without the head."""
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = []
    for line in section.splitlines():
        if "|" in line:
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def alfworld_games(won: str) -> dict[str, list[bool]]:
    """The outcomes of games of one of ALFWorld's families; `won` has a 1 or a 0 for each game."""
    return {f"{FAMILY}{number}": [bit == "1"] for number, bit in enumerate(won)}
