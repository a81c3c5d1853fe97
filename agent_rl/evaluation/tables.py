"""An evaluation's report for people: on the terminal, in Markdown, as rows of LaTeX."""

import json
import re
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent_rl.display import console, interval, percent, say, visible
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.rows import ALL as ALL
from agent_rl.evaluation.rows import HEADS as HEADS
from agent_rl.evaluation.rows import cells as cells
from agent_rl.evaluation.rows import gap_cells, gap_rows, lines_below, rows_of
from agent_rl.evaluation.scores import Gap, Score, SplitReport
from envs.alfworld import names

_NARROW_HEADS = ("n", "success\n%", "95 %\ninterval", "turns", "to\nwin", "invalid\n%", "tokens")
"""`HEADS` for a terminal of 80 columns."""
_ALFWORLD = {
    names.PLACE: "Pick",
    names.LOOK: "Look",
    names.CLEAN: "Clean",
    names.HEAT: "Heat",
    names.COOL: "Cool",
    names.TWO: "Pick2",
}
"""ALFWorld's families in the order of published tables, and their names there."""


def show(report: EvaluationReport, title: str) -> None:
    """Print a table per split, and one for the gap.

    Args:
        title: whose scores they are.
    """
    for split, part in report.splits.items():
        console.print(split_table(part, f"{title} on {split}{_temperature(report)}"))
        for line in lines_below(part):
            say(line)
    if report.gap:
        console.print(_gap_table(report.gap))


def split_table(report: SplitReport, title: str = "") -> Table:
    """A row per family and one for all games."""
    rows = [(name, *cells(score)) for name, score in rows_of(report)]
    return _table(title, ("family", *_NARROW_HEADS), rows)


def markdown(report: EvaluationReport, title: str) -> str:
    """The tables of `show` as a Markdown document."""
    parts = [f"# {title}", _about(report)]
    for split, part in report.splits.items():
        rows = [(_bold_if_all(name), *cells(score)) for name, score in rows_of(part)]
        parts += [f"## {split}", markdown_table(("family", *HEADS), rows)]
        for line in lines_below(part):
            parts.append(f"{line[0].upper()}{line[1:]}.")
    if report.gap:
        rows = [(_bold_if_all(name), *gap_cells(gap)) for name, gap in gap_rows(report.gap)]
        table = markdown_table(("family", "points", "95 % interval"), rows)
        parts += [f"## {' - '.join(report.gap.splits)}", table]
    return visible("\n\n".join(parts) + "\n")


def latex(report: EvaluationReport, name: str) -> str:
    """A row per split for a table of policies; success in percent, its 95 % interval as subscript.

    A comment before each row names its columns. ALFWorld's families are in the order of published
    tables, other families by name. `--` means that no game of the family was scored.

    Args:
        name: the policy's name, the first column.
    """
    lines = []
    for split, part in report.splits.items():
        if report.setting.get("env") == "alfworld":
            titles = dict(_ALFWORLD)
        else:
            titles = {family: family for family in part.families}
        scores = [*(part.families.get(family) for family in titles), part.overall]
        columns = ["name", *(_escaped(title) for title in titles.values()), "All"]
        row = [_escaped(name), *(_latex_cell(score) for score in scores)]
        lines.append(f"% {split}, {_about(report)}: {' & '.join(columns)}")
        lines.append(" & ".join(row) + r" \\")
    return visible("\n".join(lines) + "\n")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table without a final line end; values that are not text are written as JSON."""
    lines = [list(head), ["---"] * len(head)]
    for row in rows:
        lines.append([_markdown_cell(value) for value in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gap_table(gap: Gap) -> Table:
    rows = [(name, *gap_cells(of)) for name, of in gap_rows(gap)]
    return _table(f"{' - '.join(gap.splits)}, in points", ("family", "gap", "95 %\ninterval"), rows)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose last row is set apart."""
    table = Table(
        title=escape(title) or None,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column(heads[0], overflow="fold")
    for head in heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    *families, last = [(escape(row[0]), *row[1:]) for row in rows]
    for row in families:
        table.add_row(*row)
    table.add_section()
    table.add_row(*last, style="bold")
    return table


def _about(report: EvaluationReport) -> str:
    """The main conditions of the evaluation in one line."""
    keys = ("model", "temperature", "seed", "repeats", "max_turns")
    return ", ".join(
        f"{key} {report.setting[key]}" for key in keys if report.setting.get(key) is not None
    )


def _temperature(report: EvaluationReport) -> str:
    """The end of a title: empty for a player without a temperature."""
    temperature = report.setting.get("temperature")
    return "" if temperature is None else f", T = {temperature}"


def _latex_cell(score: Score | None) -> str:
    if score is None or not score.n:
        return "--"
    ends = interval(score.interval, between=", ")
    return f"${percent(score.success)}_{{[{ends}]}}$"


def _escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    for character, spelled in (
        ("\\", r"\textbackslash "),
        ("~", r"\textasciitilde "),
        ("^", r"\textasciicircum "),
    ):
        text = text.replace(character, spelled)
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


def _bold_if_all(name: str) -> str:
    return f"**{name}**" if name == ALL else name


def _markdown_cell(value: object) -> str:
    """A value on one line of a table."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", "<br>")
