"""The tables of a report: its runs, their configs, their evaluations."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from agent_rl.commands.compare.tables import Grid
from agent_rl.commands.report.runs import ReportedRun
from agent_rl.config import Config, ConfigError
from agent_rl.config.keys import flat_values
from agent_rl.evaluation.report import EvaluationReport, read_report, read_stage_reports
from agent_rl.evaluation.scores import SplitReport
from agent_rl.evaluation.tables import ALL, HEADS, cells
from agent_rl.runs.layout import RunLayout

_NOT_A_SETTING = ("run_folder", "sweep")
UNSET = "-"
"""Stands for a key that a config does not have."""


def config_table(runs: Sequence[ReportedRun]) -> Grid:
    """The settings in which the runs differ; for one run those that are not the defaults."""
    named = [(run.name, flat_values(run.config)) for run in runs if run.config is not None]
    if len(named) > 1:
        title, columns = "Settings that differ between the runs", named
    else:
        title = "Settings that are not the defaults"
        columns = [("default", flat_values(Config(run_folder=""))), *named]
    keys = [key for key in _keys(columns) if len({_cell(of, key) for _, of in columns}) > 1]
    rows = [(key, *(_cell(values, key) for _, values in columns)) for key in keys]
    heads = ("setting", *(name for name, _ in columns))
    return Grid(title=title, heads=heads, rows=rows, left=len(heads))


def evaluation_tables(run: ReportedRun, notes: list[str]) -> Iterator[Grid]:
    """The run's last evaluation, and those of a demo's stages; a table for each split.

    Args:
        run: the run.
        notes: sentences on what cannot be read are added here.
    """
    summary = RunLayout(run.path).demo_summary
    stages: dict[str, EvaluationReport] = {}
    try:
        if summary.is_file():
            stages = read_stage_reports(summary)
        elif run.run is not None and run.run.final is not None:
            final = run.run.final
            for path in (final.path, *final.others):
                stages[f"after rollout step {run.run.evaluated_after} ({path.name})"] = read_report(
                    path
                )
    except ConfigError as error:
        notes.append(str(error))
    for stage, report in stages.items():
        for split, part in report.splits.items():
            yield _split_grid(part, f"{run.name}, {stage}: {split}, success in %")


def _split_grid(part: SplitReport, title: str) -> Grid:
    rows = [(name, *cells(score)) for name, score in part.families.items()]
    rows.append((ALL, *cells(part.overall)))
    return Grid(title=title, heads=("family", *HEADS), rows=rows)


def _keys(columns: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    keys: dict[str, None] = {}
    for _, values in columns:
        keys.update(dict.fromkeys(values))
    return [key for key in keys if key.partition(".")[0] not in _NOT_A_SETTING]


def _cell(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return UNSET
    value = values[key]
    return value if isinstance(value, str) and value else json.dumps(value)
