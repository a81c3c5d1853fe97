"""`agent-rl envs check`: an environment against the contract, with a row per check."""

from rich.table import Table
from rich.text import Text

from agent_rl.config import read_options
from agent_rl.display import console, visible
from envs import TextEnv, make_env
from envs.conformance.report import Report, examine_env
from envs.registry import takes_option

_COLOURS = {"passed": "green", "failed": "bold red", "not run": "dim"}


def check_environment(
    env_id: str, options: list[str], *, tasks: int, steps: int, seconds: float
) -> bool:
    """Check an environment and print the outcome of each check; returns whether all passed.

    Args:
        env_id: as `env.id` in a config.
        options: `key=value` of `env.options`.
        tasks: how many tasks are played.
        steps: the most commands in a game.
        seconds: the most seconds that a call may take.

    Raises:
        ValueError: the id or an option is wrong; nothing could be checked.
    """
    values = read_options(options)
    if takes_option(env_id, "expert"):
        # With its expert, games come to an end, and there is more to check.
        values.setdefault("expert", True)
    first_error: ValueError | None = None
    made = 0

    def make() -> TextEnv:
        nonlocal first_error, made
        made += 1
        try:
            return make_env(env_id, **values)
        except ValueError as error:
            if made == 1:
                first_error = error
            raise

    report = examine_env(make, tasks=tasks, steps=steps, seconds=seconds)
    if first_error is not None:
        # The user's mistake and not the environment's: it could not even be made once.
        raise first_error
    _show(env_id, report)
    return report.passed


def _show(env_id: str, report: Report) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for no_wrap in (True, True, False):
        table.add_column(no_wrap=no_wrap)
    for check in report.checks:
        outcome = check.outcome.value
        table.add_row(check.name, outcome, Text(visible(check.sentence)), style=_COLOURS[outcome])
    console.print(table)
    failed = len(report.failures)
    verdict = f"{failed} of {len(report.checks)} checks failed" if failed else "keeps the contract"
    console.print(Text(f"{env_id}: {verdict}"))
