"""An evaluation and episodes as tables and numbers for trackers."""

from collections.abc import Sequence

from agent_rl.display import console, show_episode, visible
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.rows import rows_of
from agent_rl.runs.trackers.tracker import Cell, TrackedTable
from rollouts import Trajectory


def evaluation_metrics(report: EvaluationReport) -> dict[str, float]:
    """Success on each split with the ends of its 95 % interval, as fractions."""
    metrics: dict[str, float] = {}
    for split, part in report.splits.items():
        name, (low, high) = f"evaluation/{split}/success", part.overall.interval
        metrics |= {name: part.overall.success, f"{name}_low": low, f"{name}_high": high}
    return metrics


def evaluation_table(report: EvaluationReport) -> TrackedTable:
    """A row for each family of each split, and one for all games; success as a fraction."""
    rows: list[tuple[Cell, ...]] = []
    for split, part in report.splits.items():
        for family, score in rows_of(part):
            low, high = score.interval
            rows.append(
                (
                    split,
                    family,
                    score.n,
                    score.success,
                    low,
                    high,
                    score.mean_turns,
                    score.invalid_action_rate,
                )
            )
    head = ("split", "family", "n", "success", "low", "high", "turns", "invalid_actions")
    return TrackedTable(name="evaluation", head=head, rows=rows)


def episodes_table(step: int, episodes: Sequence[Trajectory], most: int) -> TrackedTable:
    """Some of a rollout step's episodes, as text; of as many groups as there are rows.

    Args:
        episodes: all of the step, group after group.
        most: how many to take.
    """
    # A group's episodes follow each other, so equal distances lead to different groups.
    count = min(most, len(episodes))
    chosen = [episodes[number * len(episodes) // count] for number in range(count)]
    rows: list[tuple[Cell, ...]] = []
    for episode in chosen:
        rows.append(
            (
                step,
                episode.task.id,
                episode.task.family,
                episode.stop_reason.value,
                episode.episode_return,
                len(episode.actions),
                episode_text(episode),
            )
        )
    head = ("step", "task", "family", "ending", "return", "turns", "text")
    return TrackedTable(name="episodes", head=head, rows=rows)


def episode_text(episode: Trajectory) -> str:
    """An episode turn by turn, as the terminal shows it, without colours."""
    with console.capture() as shown:
        show_episode(episode, episode.task.id)
    # The first line is the heading, which the table has in a column.
    return visible(shown.get().partition("\n")[2])
