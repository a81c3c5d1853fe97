"""What `agent-rl games` does: generate, download, list, count, look for faults."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rich.table import Table

from agent_rl.config import ConfigError, read_options
from agent_rl.display import console, progress, say
from envs import make_env
from envs.alfworld.data import game_folders, resolve_data_folder
from envs.alfworld.doctor import OFFICIAL_COUNTS, WAYS_OUT, Diagnosis, examine
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from envs.alfworld.names import FAMILIES, SPLITS

_SHOWN = 5
"""How many games are named for each complaint."""


def generate(folder: Path, settings: list[str]) -> None:
    """Write games into a new folder; `settings` are `key=value` of `GeneratorSettings`."""
    checked = GeneratorSettings.from_mapping(read_options(settings))
    total = sum(getattr(checked, split) for split in SPLITS)
    with progress("games", total) as advance:
        counts = generate_games(folder, checked, lambda done, of: advance(""))
    say(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def download(folder: Path) -> bool:
    """Fetch the published games with alfworld's own downloader, and look for faults; whether there
    are none.

    Raises:
        ConfigError: the downloader failed.
    """
    script = Path(sys.executable).with_name("alfworld-download")
    folder.mkdir(parents=True, exist_ok=True)
    say(f"alfworld-download writes into {folder}; broken off, it goes on where it was")
    # The package would make a folder in the home directory unless it is told of another.
    environment = {**os.environ, "ALFWORLD_DATA": str(folder.absolute())}
    done = subprocess.run(
        [sys.executable, str(script), "--data-dir", str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
    )
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        raise ConfigError(
            f"{folder}: the download failed ({reason}); run it again where there is a network, copy the data here from "
            "another machine, or generate games (`agent-rl games generate`)"
        )
    return doctor(str(folder))


def doctor(data: str) -> bool:
    """Print what a data folder holds beside the published numbers, and what is wrong with it;
    whether all is well.

    Raises:
        ValueError: there is no such folder.
    """
    folder = resolve_data_folder(data)
    total = sum(1 for split in SPLITS for _ in game_folders(folder / split))
    with progress("games", total) as advance:
        diagnosis = examine(folder, advance)
    if not diagnosis.counts:
        raise ConfigError(
            f"{folder}: holds none of the folders {', '.join(SPLITS)}; point to the one that does"
        )
    table = Table(
        title=f"playable games in {folder}, beside the published number", title_justify="left"
    )
    table.add_column("family", no_wrap=True)
    for split in SPLITS:
        table.add_column(split, justify="right")
    for row, family in enumerate(FAMILIES):
        table.add_row(family, *(_beside(diagnosis, split, family, row) for split in SPLITS))
    table.add_section()
    totals = (
        f"{diagnosis.counts[s].total()} of {sum(OFFICIAL_COUNTS[s])}"
        if s in diagnosis.counts
        else "not here"
        for s in SPLITS
    )
    table.add_row("all", *totals, style="bold")
    console.print(table)
    for split in diagnosis.counts:
        if diagnosis.differs_from_official(split):
            say(
                f"{split}: not the published games, or not all of them; results on it compare with nobody else's"
            )
    for complaint, games in diagnosis.complaints.items():
        say(f"{complaint}: {len(games)} games; {WAYS_OUT[complaint]}")
        for game, reason in list(games.items())[:_SHOWN]:
            say(f"    {game}{': ' if reason else ''}{reason}")
        if len(games) > _SHOWN:
            say(f"    and {len(games) - _SHOWN} more")
    if diagnosis.healthy:
        say("no faults found")
    return diagnosis.healthy


def _beside(diagnosis: Diagnosis, split: str, family: str, row: int) -> str:
    return (
        f"{diagnosis.counts[split][family]} of {OFFICIAL_COUNTS[split][row]}"
        if split in diagnosis.counts
        else "-"
    )


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
        table.add_row(
            family, *(str(counts[split][family]) if split in counts else "-" for split in SPLITS)
        )
    table.add_section()
    table.add_row(
        "all", *(str(counts[s].total()) if s in counts else "-" for s in SPLITS), style="bold"
    )
    console.print(table)
