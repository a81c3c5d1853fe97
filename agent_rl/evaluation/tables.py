"""An evaluation's report for people: on the terminal, in Markdown, as rows of a LaTeX table."""

import json
import re
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent_rl.display import console, say
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.scores import Gap, GapScore, Score, SplitReport

ALL = "all"
HEADS = ("n", "success %", "95 % interval", "turns", "turns to success", "invalid %", "tokens")
_NARROW = ("n", "success\n%", "95 %\ninterval", "turns", "to\nwin", "invalid\n%", "tokens")
"""The same, for a terminal of 80 columns."""
_ALFWORLD = {
    "pick_and_place_simple": "Pick",
    "look_at_obj_in_light": "Look",
    "pick_clean_then_place_in_recep": "Clean",
    "pick_heat_then_place_in_recep": "Heat",
    "pick_cool_then_place_in_recep": "Cool",
    "pick_two_obj_and_place": "Pick2",
}
"""The families in the order and with the names of the field's tables."""


def show(report: EvaluationReport, title: str) -> None:
    """Print the table of each split, with the repeats and what was not scored, and the gap. `title`
    says whose.
    """
    for split, part in report.splits.items():
        console.print(split_table(part, f"{title} on {split}{_temperature(report)}"))
        for line in (repeats_line(part), failures_line(part)):
            if line:
                say(line)
    if report.gap:
        console.print(_gap_table(report.gap))


def split_table(report: SplitReport, title: str = "") -> Table:
    """A row per family and one for all."""
    rows = [(name, *cells(score)) for name, score in _rows(report)]
    return _table(title, ("family", *_NARROW), rows)


def repeats_line(report: SplitReport) -> str:
    """The success of each repeat, in percent; empty where there is one only."""
    repeats = report.overall.per_repeat
    return (
        "repeats: " + " ".join(_percent(repeat.success) for repeat in repeats)
        if len(repeats) > 1
        else ""
    )


def failures_line(report: SplitReport) -> str:
    """How many episodes are in no score, by reason; empty where there is none."""
    failed = ", ".join(f"{count} {reason}" for reason, count in report.failures.items())
    return f"not scored, as they say nothing about the policy: {failed}" if failed else ""


def markdown(report: EvaluationReport, title: str) -> str:
    """The same as a Markdown document."""
    parts = [f"# {title}", _about(report)]
    for split, part in report.splits.items():
        rows = [
            (f"**{name}**" if name == ALL else name, *cells(score)) for name, score in _rows(part)
        ]
        parts += [f"## {split}", markdown_table(("family", *HEADS), rows)]
        parts += [
            f"{line[0].upper()}{line[1:]}."
            for line in (repeats_line(part), failures_line(part))
            if line
        ]
    if gap := report.gap:
        rows = [
            (f"**{name}**" if name == ALL else name, *_gap_cells(of)) for name, of in _gap_rows(gap)
        ]
        parts += [
            f"## {' - '.join(gap.splits)}",
            markdown_table(("family", "points", "95 % interval"), rows),
        ]
    return "\n\n".join(parts) + "\n"


def latex(report: EvaluationReport, name: str) -> str:
    """A row per split for a table of policies: success in percent, with its 95 % interval as a
    subscript.

    A comment before each row names its columns. ALFWorld's families come in the order of the
    field's tables, those of other environments by name; `--` stands for a family of which no game
    was scored.
    """
    lines = []
    for split, part in report.splits.items():
        names = (
            dict(_ALFWORLD)
            if report.setting.get("env") == "alfworld"
            else {name: name for name in part.families}
        )
        scores = [*(part.families.get(family) for family in names), part.overall]
        row = [_escaped(name), *(_latex_cell(score) for score in scores)]
        columns = ["name", *(_escaped(column) for column in names.values()), "All"]
        lines += [f"% {split}, {_about(report)}: {' & '.join(columns)}", " & ".join(row) + r" \\"]
    return "\n".join(lines) + "\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, without a line end behind it."""
    lines = [head, ["---"] * len(head), *([_markdown_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(score: Score) -> tuple[str, ...]:
    """What stands under `HEADS`."""
    return (
        str(score.n),
        _percent(score.success),
        interval_text(score.interval),
        f"{score.mean_turns:.1f}",
        "-" if score.turns_to_success is None else f"{score.turns_to_success:.1f}",
        _percent(score.invalid_action_rate),
        "-" if score.tokens_per_episode is None else f"{score.tokens_per_episode:,.0f}",
    )


def interval_text(interval: tuple[float, float]) -> str:
    """Both ends in percent."""
    return f"{_percent(interval[0])}-{_percent(interval[1])}"


def _rows(report: SplitReport) -> list[tuple[str, Score]]:
    return [*report.families.items(), (ALL, report.overall)]


def _gap_rows(gap: Gap) -> list[tuple[str, GapScore]]:
    return [*gap.families.items(), (ALL, gap.overall)]


def _gap_table(gap: Gap) -> Table:
    rows = [(name, *_gap_cells(of)) for name, of in _gap_rows(gap)]
    return _table(f"{' - '.join(gap.splits)}, in points", ("family", "gap", "95 %\ninterval"), rows)


def _gap_cells(of: GapScore) -> tuple[str, str]:
    low, high = of.interval
    return f"{100 * of.difference:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The last row is set off."""
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
    """The most of the setting that a reader has to know, in a line."""
    keys = ("model", "temperature", "seed", "repeats", "max_turns")
    return ", ".join(
        f"{key} {report.setting[key]}" for key in keys if report.setting.get(key) is not None
    )


def _temperature(report: EvaluationReport) -> str:
    temperature = report.setting.get("temperature")
    return "" if temperature is None else f", T = {temperature}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _latex_cell(score: Score | None) -> str:
    if score is None or not score.n:
        return "--"
    low, high = (_percent(end) for end in score.interval)
    return f"${_percent(score.success)}_{{[{low}, {high}]}}$"


def _escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    for character, spelled in (
        ("\\", r"\textbackslash "),
        ("~", r"\textasciitilde "),
        ("^", r"\textasciicircum "),
    ):
        text = text.replace(character, spelled)
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


def _markdown_cell(value: object) -> str:
    """A value on one line of a table."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", "<br>")
