"""An evaluation's report: its JSON, and the only code that reads it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent_rl.config import ConfigError
from agent_rl.config.keys import upgraded_options
from agent_rl.evaluation.rows import HEADS, cells, gap_cells, gap_rows, lines_below, rows_of
from agent_rl.evaluation.scores import Gap, Repeats, Score, SplitReport
from agent_rl.files import write_json
from agent_rl.runs.layout import checkpoint_step_in
from envs import TextEnv
from envs.text_env import ReadObject
from rollouts.rendering.notebook import html_table

VERSION = 2
"""The version of the JSON. Raise it with every change that a reader has to know."""
_OLD_STAGES = {"gmpo": "train"}
"""Names of a demo's stages in earlier versions."""


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """An evaluation, with all that is needed to run it again."""

    setting: dict[str, Any]
    """The policy and the conditions: model, temperature, seed and so on."""
    splits: dict[str, SplitReport]
    """The scores of each split, in the order in which they were asked for."""
    gap: Gap | None
    """The first split minus the second; None if there is only one split."""

    @property
    def overall(self) -> Score:
        """The score on the first split."""
        return next(iter(self.splits.values())).overall

    @property
    def checkpoint_step(self) -> int | None:
        """The rollout step of the checkpoint that was evaluated; None for another policy."""
        return checkpoint_step_in(str(self.setting.get("model")))

    def record(self) -> dict[str, Any]:
        """The content of the JSON."""
        return {"version": VERSION, **asdict(self)}

    def write(self, path: str | Path) -> None:
        """Write the JSON, whole or not at all."""
        write_json(path, self.record())

    def _repr_html_(self) -> str:
        """A table per split, and one for the gap, for a notebook."""
        model, tables = self.setting.get("model", "success"), []
        for split, part in self.splits.items():
            rows = [(name, *cells(score)) for name, score in rows_of(part)]
            notes = lines_below(part)
            tables.append(html_table(f"{model} on {split}", ("family", *HEADS), rows, notes=notes))
        if self.gap:
            differences = [(name, *gap_cells(gap)) for name, gap in gap_rows(self.gap)]
            title = f"{' - '.join(self.gap.splits)}, in points"
            tables.append(html_table(title, ("family", "gap", "95 % interval"), differences))
        return "\n".join(tables)


def summarize(
    episodes: Mapping[str, Repeats],
    setting: Mapping[str, Any],
    read: ReadObject = TextEnv.object_named,
) -> EvaluationReport:
    """Score the episodes of each split.

    Args:
        episodes: the repeats of each split.
        setting: becomes the report's.
        read: the reader of their environment (`object_reader`).
    """
    splits = {split: SplitReport.of(repeats, read) for split, repeats in episodes.items()}
    return EvaluationReport(setting=dict(setting), splits=splits, gap=Gap.of(splits))


def read_report(path: Path) -> EvaluationReport:
    """Read a report that `EvaluationReport.write` wrote, now or in an earlier version of the code.

    Raises:
        ConfigError: the file is missing or damaged, or its version is another; it names the file.
    """
    record = _read_json(path)
    try:
        return report_of(record)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_stage_reports(path: Path) -> dict[str, EvaluationReport]:
    """Read the reports of the stages in a demo's `demo.json`: init, sft, train, in this order.

    Raises:
        ConfigError: as `read_report`; or the file has no stages.
    """
    record = _read_json(path)
    stages = record.get("stages") if isinstance(record, dict) else None
    if not isinstance(stages, dict):
        raise ConfigError(f"{path}: has no stages: run the demo again")
    reports = {}
    for stage, of_stage in stages.items():
        try:
            reports[_OLD_STAGES.get(str(stage), str(stage))] = report_of(of_stage)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return reports


def is_report(path: Path) -> bool:
    """Whether a whole report is at `path`; a machine that dies may leave an empty file.

    A report of another version counts too: to read it then says what to do about it.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "splits" in record


def report_of(record: Any) -> EvaluationReport:
    """Turn the content of a report's JSON into a report.

    Raises:
        ConfigError: it is no report, its version is another, or it lists a game twice.
    """
    # Reports of version 1 had no `version`, and `overall` at the top.
    if not isinstance(record, dict) or ("overall" not in record and "version" not in record):
        raise ConfigError("is no evaluation report; evaluate again")
    version = record.get("version", 1)
    if version != VERSION:
        raise ConfigError(
            f"is a report of version {version}, and this is version {VERSION}; evaluate again"
        )
    try:
        report = _REPORT.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"is no evaluation report ({key}: {first['msg']}); evaluate again"
        ) from error
    setting = {**report.setting}
    options = setting.get("env_options")
    if isinstance(options, dict):
        # Options may have been renamed since, and `compare` looks for differences.
        setting["env_options"] = upgraded_options(str(setting.get("env")), options)
    report = replace(report, setting=setting)
    for name, split in report.splits.items():
        ids: set[str] = set()
        for game in split.games:
            if game.id in ids:
                raise ConfigError(
                    f"splits.{name}: game {game.id!r} is listed twice; evaluate again"
                )
            ids.add(game.id)
    return report


_REPORT = TypeAdapter(EvaluationReport)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is no evaluation report ({error}); evaluate again") from error
