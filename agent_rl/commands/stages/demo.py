"""`agent-rl demo`: from nothing to a policy that has learned to play, timed and evaluated."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent_rl.commands.report.report import write_report
from agent_rl.commands.stages.init import init_in
from agent_rl.commands.stages.sft import sft_in
from agent_rl.commands.stages.start import locked_run
from agent_rl.commands.stages.train import open_to_train
from agent_rl.config import Config, ConfigError
from agent_rl.display import console, interval, percent, say, show_episode
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.tables import show
from agent_rl.files import set_aside, write_json
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.objective.presets import ObjectiveName, display_name
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trackers.packages import require_trackers
from agent_rl.tasks import open_environment
from agent_rl.training.loop import TrainingLoop
from agent_rl.training.session import Session
from agent_rl.training.stopping import stops_on_signals
from rollouts import Trajectory


def run_demo(config: Config) -> None:
    """Run all stages into `config.run_folder`, with an evaluation after each.

    The reports and the times are written to `demo.json` there. The folder of an earlier demo is
    renamed.

    Raises:
        ConfigError: `model.lora` is set: an adapter needs a model that was trained before; or the
            package of a tracker is missing.
    """
    if config.model.lora is not None:
        raise ConfigError(
            "model.lora: the demo trains all weights; use `agent-rl init`, `sft` and `train` "
            "instead"
        )
    require_trackers(config)
    run = RunLayout(Path(config.run_folder))
    # Another demo may be at work in it.
    if run.folder.is_dir():
        with locked_run(run):
            aside = set_aside(run.folder, "before")
            say(f"{run.folder} holds an earlier demo; it is kept as {aside}")
    with stops_on_signals(), locked_run(run):
        _run_stages(config, run)


def _run_stages(config: Config, run: RunLayout) -> None:
    demo = _Demo(config, run)
    demo.count_games()
    with demo.timed("init", "A policy from scratch"):
        source = init_in(config, run.init)
    with Session(config, source) as session:
        demo.evaluate(session, "init")
        session.require_trainable()
        # The same processes for both stages: they start while the expert plays.
        with LearnerProcesses(config.learner, config.serving) as learner:
            _train_stages(demo, session, learner, run)
    demo.finish()


def _train_stages(
    demo: "_Demo", session: Session, learner: LearnerProcesses, run: RunLayout
) -> None:
    config = session.config
    with demo.timed("sft", "Warm start (SFT) on the expert's episodes"):
        with RunFolder(run.sft.folder, config) as folder:
            source = sft_in(session, learner, folder)
        session.serve(learner)
    demo.evaluate(session, "sft")
    name = display_name(config.learner.objective)
    with demo.timed("train", f"Reinforcement learning with {name}"):
        open_to_train(learner, config, str(source), run)
        session.serve(learner)
        loop = TrainingLoop(config, session, run.train.folder, learner)
        try:
            loop.train()
        finally:
            loop.close()
    demo.evaluate(session, "train")


class _Demo:
    """The results of a demo: the report, the episodes and the seconds of each stage."""

    def __init__(self, config: Config, run: RunLayout) -> None:
        self._config, self._run = config, run
        self._titles = stage_titles(config.learner.objective)
        self._reports: dict[str, EvaluationReport] = {}
        self._episodes: dict[str, list[Trajectory]] = {}
        self._seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str, title: str) -> Iterator[None]:
        """Print a heading, and keep the seconds of the block."""
        console.rule(title, align="left")
        started = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - started, 1)

    def count_games(self) -> None:
        """Say how many games there are; ALFWorld's are generated here if the config says so."""
        config = self._config
        with self.timed("games", "Games"):
            env = open_environment(config)
            splits = (config.env.train_split, *config.evaluation.split)
            say("games: " + ", ".join(f"{len(env.tasks(split))} {split}" for split in splits))
            env.close()

    def evaluate(self, session: Session, stage: str) -> None:
        """Evaluate the policy after a stage, and print the scores."""
        with self.timed(f"evaluate_{stage}", f"Evaluation {self._titles[stage]}"):
            self._reports[stage], self._episodes[stage] = session.evaluate(stage=stage)
            show(self._reports[stage], self._titles[stage])

    def finish(self) -> None:
        """Show what has been learned, and write the summary."""
        show_before_and_after(self._episodes["sft"], self._episodes["train"], self._titles)
        total = sum(self._seconds.values())
        write_json(
            self._run.demo_summary,
            {
                "stages": {stage: report.record() for stage, report in self._reports.items()},
                "seconds": {**self._seconds, "total": total},
            },
        )
        console.print(comparison(self._reports, self._titles))
        say(
            f"{total / 60:.1f} minutes in all. Everything is in {self._run.folder}, the numbers in "
            f"{self._run.demo_summary}."
        )
        page = write_report([self._run.folder])
        say(f"Open {page} in a browser: the curves, and every episode token by token.")


def stage_titles(objective: ObjectiveName) -> dict[str, str]:
    """The name of the policy after each stage."""
    return {
        "init": "before training",
        "sft": "after the warm start",
        "train": f"after {display_name(objective)}",
    }


def comparison(reports: Mapping[str, EvaluationReport], titles: Mapping[str, str]) -> Table:
    """Success per family after each stage, in percent, on the first split of the evaluation.

    Args:
        reports: by stage.
        titles: the head of each stage's column.
    """
    title = "Success on held-out games, %"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("family", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for stage in reports:
        table.add_column(titles[stage].replace(" ", "\n", 1), justify="right", no_wrap=True)
    splits = [next(iter(report.splits.values())) for report in reports.values()]
    for family in splits[-1].families:
        scores = [split.families[family] for split in splits]
        table.add_row(
            escape(family), str(scores[-1].n), *(percent(score.success) for score in scores)
        )
    table.add_section()
    cells = []
    for split in splits:
        score = split.overall
        cells.append(f"{percent(score.success)} ({interval(score.interval, digits=0)})")
    table.add_row("all (95 % interval)", str(splits[-1].overall.n), *cells, style="bold")
    return table


def show_before_and_after(
    before: Sequence[Trajectory], after: Sequence[Trajectory], titles: Mapping[str, str]
) -> None:
    """Print one task turn by turn, after the warm start and after reinforcement learning.

    It is the shortest of the tasks that were lost before and won after; of all, if there is none.
    """
    pairs = list(zip(before, after, strict=True))
    gained = [(a, b) for a, b in pairs if b.success and not a.success]
    first, second = min(gained or pairs, key=lambda pair: sum(len(e.actions) for e in pair))
    show_episode(first, f"{first.task.id}: {titles['sft']}")
    show_episode(second, f"{second.task.id}: {titles['train']}")
