"""The rows and lines of an evaluation's tables as plain text, wherever they are shown."""

from agent_rl.display import interval, percent, points, points_interval
from agent_rl.evaluation.scores import Gap, GapScore, Score, SplitReport

ALL = "all"
"""The name of the row of all games."""
HEADS = ("n", "success %", "95 % interval", "turns", "turns to success", "invalid %", "tokens")


def cells(score: Score) -> tuple[str, ...]:
    """The cells under `HEADS`."""
    return (
        str(score.n),
        percent(score.success),
        interval(score.interval),
        f"{score.mean_turns:.1f}",
        "-" if score.turns_to_success is None else f"{score.turns_to_success:.1f}",
        percent(score.invalid_action_rate),
        "-" if score.tokens_per_episode is None else f"{score.tokens_per_episode:,.0f}",
    )


def rows_of(report: SplitReport) -> list[tuple[str, Score]]:
    """The names and scores of a split's rows: each family, then all games."""
    return [*report.families.items(), (ALL, report.overall)]


def gap_rows(gap: Gap) -> list[tuple[str, GapScore]]:
    """The names and differences of a gap's rows: each family, then all games."""
    return [*gap.families.items(), (ALL, gap.overall)]


def gap_cells(gap: GapScore) -> tuple[str, str]:
    """The difference and its interval in percentage points."""
    return points(gap.difference), points_interval(gap.interval)


def repeats_line(report: SplitReport) -> str:
    """The success of each repeat, in percent; empty if there is only one."""
    repeats = report.overall.per_repeat
    if len(repeats) < 2:
        return ""
    return "repeats: " + " ".join(percent(repeat.success) for repeat in repeats)


def failures_line(report: SplitReport) -> str:
    """The numbers of episodes that are in no score, by reason; empty if there are none."""
    failed = ", ".join(f"{count} {reason}" for reason, count in report.failures.items())
    return f"not scored, as they say nothing about the policy: {failed}" if failed else ""


def truncated_line(report: SplitReport) -> str:
    """The share of actions that were cut off, in percent; empty if none was, or it is unknown."""
    share = report.overall.truncated_action_rate
    return f"actions cut off by their token limit: {percent(share)} %" if share else ""


def reading_lines(report: SplitReport) -> list[str]:
    """The shares that say whether the policy reads, in percent; those that are unknown are left
    out.
    """
    reading = report.reading
    if reading is None:
        return []
    shares = (
        ("commands that go to furniture that the texts do not list", reading.unlisted_furniture),
        ("commands that take a thing that no text has named", reading.unseen_things),
        ("invalid commands that repeat the one before", reading.repeated_refusals),
    )
    return [f"{what}: {percent(share)} %" for what, share in shares if share is not None]


def lines_below(report: SplitReport) -> list[str]:
    """What is said below a table."""
    lines = (
        repeats_line(report),
        truncated_line(report),
        *reading_lines(report),
        failures_line(report),
    )
    return [line for line in lines if line]
