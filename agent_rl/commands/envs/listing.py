"""`agent-rl envs list`: a table of the environments that have a name."""

from rich.table import Table
from rich.text import Text

from agent_rl.display import console
from envs.registry import list_environments


def show_environments() -> None:
    """Print a row per environment: its id, its summary, its package."""
    table = Table(box=None, pad_edge=False)
    for head in ("id", "what it is", "from"):
        table.add_column(head, no_wrap=head != "what it is")
    for entry in list_environments():
        table.add_row(*map(Text, (entry.id, entry.summary, entry.source)))
    console.print(table)
    console.print(
        "Also package.module:Class for your own, and gymnasium's ids, such as FrozenLake-v1.",
        style="dim",
    )
