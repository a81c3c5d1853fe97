"""The commands of `agent-rl games` on data folders: generate, download, doctor, list, info."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rich.table import Table

from agent_rl.config import ConfigError, read_options
from agent_rl.display import console, progress, say, visible
from envs import make_env
from envs.alfworld.data import game_folders, resolve_data_folder
from envs.alfworld.doctor import PUBLISHED_COUNTS, WAYS_OUT, Diagnosis, examine
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from envs.alfworld.names import FAMILIES, SPLITS

_SHOWN = 5
"""How many games are named for each complaint."""


def generate(folder: Path, settings: list[str]) -> None:
    """Write games into a new folder.

    Args:
        folder: the folder to make.
        settings: `key=value` of `GeneratorSettings`.
    """
    checked = GeneratorSettings.from_mapping(read_options(settings))
    total = sum(getattr(checked, split) for split in SPLITS)
    with progress("games", total) as advance:
        counts = generate_games(folder, checked, lambda done, of: advance(""))
    say(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def download(folder: Path) -> bool:
    """Fetch the published games with alfworld's own downloader; returns whether they are faultless.

    Raises:
        ConfigError: the downloader failed.
    """
    script = Path(sys.executable).with_name("alfworld-download")
    folder.mkdir(parents=True, exist_ok=True)
    say(f"alfworld-download writes into {folder}; if it is interrupted, run it again: it resumes")
    # Without this variable the package would make a folder in the home directory.
    environment = {**os.environ, "ALFWORLD_DATA": str(folder.absolute())}
    ended = subprocess.run(
        [sys.executable, str(script), "--data-dir", str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
    )
    if ended.returncode:
        reason = (ended.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        raise ConfigError(
            f"{folder}: the download failed ({reason}); run it again with a network, "
            "copy the data here from another machine, or generate games (`agent-rl games "
            "generate`)"
        )
    return doctor(str(folder))


def doctor(data: str) -> bool:
    """Print the games of a data folder next to the published numbers, and all faults.

    Returns:
        Whether there are no faults.

    Raises:
        ValueError: there is no such folder.
    """
    folder = resolve_data_folder(data)
    total = sum(1 for split in SPLITS for _ in game_folders(folder / split))
    with progress("games", total) as advance:
        diagnosis = examine(folder, advance)
    if not diagnosis.counts:
        raise ConfigError(
            f"{folder}: holds none of the folders {', '.join(SPLITS)}; name the folder that does"
        )
    console.print(_diagnosis_table(diagnosis, folder))
    for split in diagnosis.counts:
        if diagnosis.differs_from_published(split):
            say(
                f"{split}: not the published games, or not all of them; results on it cannot be "
                "compared with others'"
            )
    for complaint, games in diagnosis.complaints.items():
        say(f"{complaint}: {len(games)} games; {WAYS_OUT[complaint]}")
        for game, reason in list(games.items())[:_SHOWN]:
            say(f"    {game}: {reason}" if reason else f"    {game}")
        if len(games) > _SHOWN:
            say(f"    and {len(games) - _SHOWN} more")
    if diagnosis.healthy:
        say("no faults found")
    return diagnosis.healthy


def list_games(data: str, split: str) -> None:
    """Print a line per game: family and id."""
    for task in make_env("alfworld", data=data).tasks(split):
        print(visible(f"{task.family}\t{task.id}"))


def show_counts(data: str) -> None:
    """Print a table of games per family and split; a missing split shows as `-`."""
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
    table = _families_table(f"ALFWorld games in {data}")
    for family in FAMILIES:
        cells = [str(counts[split][family]) if split in counts else "-" for split in SPLITS]
        table.add_row(family, *cells)
    totals = [str(counts[split].total()) if split in counts else "-" for split in SPLITS]
    table.add_section()
    table.add_row("all", *totals, style="bold")
    console.print(table)


def _diagnosis_table(diagnosis: Diagnosis, folder: Path) -> Table:
    """The playable games per family and split, each next to the published number."""
    table = _families_table(f"playable games in {folder}, of the published number")
    for row, family in enumerate(FAMILIES):
        cells = []
        for split in SPLITS:
            if split in diagnosis.counts:
                count, published = diagnosis.counts[split][family], PUBLISHED_COUNTS[split][row]
                cells.append(f"{count} of {published}")
            else:
                cells.append("-")
        table.add_row(family, *cells)
    totals = []
    for split in SPLITS:
        if split in diagnosis.counts:
            count, published = diagnosis.counts[split].total(), sum(PUBLISHED_COUNTS[split])
            totals.append(f"{count} of {published}")
        else:
            totals.append("not here")
    table.add_section()
    table.add_row("all", *totals, style="bold")
    return table


def _families_table(title: str) -> Table:
    """An empty table with a column for the family and one for each split."""
    table = Table(title=title, title_justify="left")
    table.add_column("family", no_wrap=True)
    for split in SPLITS:
        table.add_column(split, justify="right")
    return table
