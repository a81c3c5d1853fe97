"""The main job: from nothing to a policy that got better at ALFWorld, every stage timed and
evaluated.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from agent_rl.commands.stages import stages
from agent_rl.config import Config, ConfigError
from agent_rl.display import console, say, show_episode
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.tables import show
from agent_rl.runs.folder import RunFolder
from agent_rl.training.loop import TrainingLoop
from agent_rl.training.session import Session
from envs import make_env
from rollouts import Trajectory

STAGES = {"init": "before training", "sft": "after the warm start", "gmpo": "after GMPO"}


def run_demo(config: Config) -> None:
    """Run all stages into `config.run_folder` and write `demo.json` there; an earlier demo's folder
    is kept aside.
    """
    if config.model.lora is not None:
        raise ConfigError(
            "model.lora: the demo trains all weights; use `agent-rl init`, `sft` and `train` instead"
        )
    folder = Path(config.run_folder)
    if folder.exists():
        aside = _set_aside(folder)
        say(f"{folder} holds an earlier demo; it is kept as {aside}")
    summary = folder / "demo.json"
    seconds: dict[str, float] = {}
    with _timed(seconds, "games", "ALFWorld games"):
        env = make_env(config.env.id, **config.env.options)
        splits = (config.env.train_split, *config.evaluation.split)
        say("games: " + ", ".join(f"{len(env.tasks(split))} {split}" for split in splits))
    with _timed(seconds, "init", "A policy from scratch"):
        source = stages.init(config)
    reports: dict[str, EvaluationReport] = {}
    episodes: dict[str, list[Trajectory]] = {}
    with Session(config, source) as session:

        def look(stage: str) -> None:
            with _timed(seconds, f"evaluate_{stage}", f"Evaluation {STAGES[stage]}"):
                reports[stage], episodes[stage] = session.evaluate(stage=stage)
                show(reports[stage], STAGES[stage])

        look("init")
        with _timed(seconds, "sft", "Warm start on the expert's episodes"):
            stages.sft_in(config, session, RunFolder(Path(config.run_folder) / "sft", config))
            session.sync()
        look("sft")
        with _timed(seconds, "gmpo", f"Reinforcement with {config.learner.objective.upper()}"):
            loop = TrainingLoop(
                config, session, folder / "train", reference=stages.reference_policy(config)
            )
            try:
                loop.train()
            finally:
                loop.close()
        look("gmpo")
    show_before_and_after(episodes["sft"], episodes["gmpo"])
    record = {
        "stages": {stage: report.record() for stage, report in reports.items()},
        "seconds": {**seconds, "total": sum(seconds.values())},
    }
    summary.write_text(json.dumps(record, indent=2) + "\n")
    console.print(comparison(reports))
    minutes = sum(seconds.values()) / 60
    say(f"{minutes:.1f} minutes in all. Everything is in {folder}, the numbers in {summary}.")


def _set_aside(folder: Path) -> Path:
    number = next(n for n in count(1) if not folder.with_name(f"{folder.name}-{n}").exists())
    return folder.rename(folder.with_name(f"{folder.name}-{number}"))


def comparison(reports: Mapping[str, EvaluationReport]) -> Table:
    """Success per family after each stage, in percent, on the first of the evaluation's splits."""
    title = "Success on held-out games, %"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("family", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for stage in reports:
        table.add_column(STAGES[stage].replace(" ", "\n", 1), justify="right", no_wrap=True)
    splits = [next(iter(report.splits.values())) for report in reports.values()]
    for family in splits[-1].families:
        scores = [split.families[family] for split in splits]
        table.add_row(
            family, str(scores[-1].n), *(f"{100 * score.success:.1f}" for score in scores)
        )
    table.add_section()
    overall = [split.overall for split in splits]
    cells = [
        f"{100 * score.success:.1f} ({100 * score.interval[0]:.0f}-{100 * score.interval[1]:.0f})"
        for score in overall
    ]
    table.add_row("all (95 % interval)", str(overall[-1].n), *cells, style="bold")
    return table


def show_before_and_after(before: list[Trajectory], after: list[Trajectory]) -> None:
    """One task turn by turn at both times: a task lost before and won after, where there is one."""
    pairs = list(zip(before, after, strict=True))
    gained = [pair for pair in pairs if pair[1].success and not pair[0].success]
    first, second = min(gained or pairs, key=lambda pair: len(pair[0].turns) + len(pair[1].turns))
    show_episode(first, f"{first.task.id}: after the warm start")
    show_episode(second, f"{second.task.id}: after GMPO")


@contextmanager
def _timed(seconds: dict[str, float], name: str, title: str) -> Iterator[None]:
    console.rule(title, align="left")
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 1)
