"""What `agent-rl games` does: generate, list, count."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from agent_rl.config import ConfigError
from agent_rl.display import console, progress, say
from envs import make_env
from envs.alfworld_generator import GeneratorSettings, generate_games
from envs.alfworld_index import FAMILIES, SPLITS


def generate(folder: Path, settings: list[str]) -> None:
    """Write games into a new folder; `settings` are `key=value` of `GeneratorSettings`."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{setting!r}: write key=value, for example train=500 or receptacles=[4,6]")
        values[key] = yaml.safe_load(text)
    checked = GeneratorSettings.from_mapping(values)
    total = sum(getattr(checked, split) for split in SPLITS)
    with progress("games", total) as advance:
        counts = generate_games(folder, checked, lambda done, of: advance(""))
    say(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def list_games(data: str, split: str) -> None:
    """Print a line per game."""
    for task in make_env("alfworld", data=data).tasks(split):
        print(f"{task.family}\t{task.id}")


def show_counts(data: str) -> None:
    """Print a table of games per family and split; a split that is not there shows as `-`."""
    env = make_env("alfworld", data=data)
    counts: dict[str, Counter[str]] = {}
    problems: list[str] = []
    for split in SPLITS:
        try:
            counts[split] = Counter(task.family for task in env.tasks(split))
        except ValueError as error:
            problems.append(str(error))
    if not counts:
        raise ConfigError(problems[0])
    table = Table(title=f"ALFWorld games in {data}", title_justify="left")
    table.add_column("family", no_wrap=True)
    for split in SPLITS:
        table.add_column(split, justify="right")
    for family in FAMILIES:
        table.add_row(family, *(str(counts[split][family]) if split in counts else "-" for split in SPLITS))
    table.add_section()
    table.add_row("all", *(str(counts[s].total()) if s in counts else "-" for s in SPLITS), style="bold")
    console.print(table)
