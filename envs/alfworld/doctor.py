"""Finds faults in a folder of ALFWorld games: files cut off, missing, outdated or unwinnable."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from envs.alfworld.data import GAME_FILE, game_folders, read_game
from envs.alfworld.engines.game import load_game
from envs.alfworld.engines.rules import step
from envs.alfworld.engines.state import State
from envs.alfworld.names import FAMILIES, SPLITS

PUBLISHED_COUNTS = {
    "train": (790, 308, 650, 459, 533, 813),
    "valid_seen": (35, 13, 27, 16, 25, 24),
    "valid_unseen": (24, 18, 31, 23, 21, 17),
}
"""By split: the number of published games of each family, in the order of `FAMILIES`."""

STRANGE = "of no known family"
MISSING = "no game file"
UNREADABLE = "unreadable"
OLD_GRAMMAR = "older grammar"
UNSOLVABLE = "not solvable"
LOST = "walkthrough does not win"
REFUSED = "not for the native engine"

WAYS_OUT = {
    STRANGE: "move these folders out of the data folder, or give them their old names again",
    MISSING: "they are not played; if a count falls short, the download or the unpacking broke "
    "off: do it again",
    UNREADABLE: "delete these files, then run `agent-rl games download` again, or unpack the "
    "archive again",
    OLD_GRAMMAR: "they say `put X in/on Y`, but games since alfworld 0.4 say `move X to Y`, as do "
    "models trained on those: run `agent-rl games download` into an empty folder",
    UNSOLVABLE: "they are marked so and never played; nothing need be done",
    LOST: "the file has been changed: delete it, then run `agent-rl games download` again",
    REFUSED: "set env.options.engine: textworld to play them with the stock engine",
}
"""For each complaint: what to do about it."""


@dataclass
class Diagnosis:
    """The findings about a data folder."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    """By split, the number of playable games of each family."""
    complaints: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """By complaint, the games with it (`split/id`), each with the reason or ""."""

    @property
    def healthy(self) -> bool:
        """Whether there are games, and no complaint that a person should do something about.

        A missing file is harmless if all counts are as published: the published data has empty
        folders too.
        """
        harmless = {UNSOLVABLE}
        if not any(self.differs_from_published(split) for split in self.counts):
            harmless.add(MISSING)
        return any(self.counts.values()) and not set(self.complaints) - harmless

    def differs_from_published(self, split: str) -> bool:
        """Whether a family of this split has more or fewer games than the published data."""
        counts = self.counts[split]
        return tuple(counts[family] for family in FAMILIES) != PUBLISHED_COUNTS[split]


def examine(folder: Path, on_game: Callable[[str], None] = lambda game_id: None) -> Diagnosis:
    """Read every game of a data folder, and play its walkthrough in the native engine.

    Args:
        folder: holds the split folders.
        on_game: called with the id of each game that was read.
    """
    diagnosis = Diagnosis()
    for split in SPLITS:
        if not (folder / split).is_dir():
            continue
        counts = diagnosis.counts.setdefault(split, Counter())
        for game_id, game_folder in game_folders(folder / split):
            family = game_id.partition("-")[0]
            complaint, reason = _examine_game(game_folder / GAME_FILE, known=family in FAMILIES)
            if complaint:
                diagnosis.complaints[complaint][f"{split}/{game_id}"] = reason
            if complaint in ("", REFUSED) and family in FAMILIES:
                counts[family] += 1
            on_game(game_id)
    return diagnosis


def _examine_game(path: Path, *, known: bool) -> tuple[str, str]:
    """The first complaint about a game, and the reason; two empty texts if all is well.

    Args:
        path: the game's file.
        known: whether its family is one of `FAMILIES`.
    """
    if not known:
        return (STRANGE, "") if path.is_file() else ("", "")
    if not path.is_file():
        return MISSING, ""
    try:
        data = read_game(path)
    except ValueError as error:
        return UNREADABLE, str(error)
    if data.get("solvable") is not True:
        return UNSOLVABLE, ""
    if '"put {o} in/on {r}"' in data["grammar"]:
        return OLD_GRAMMAR, ""
    try:
        state = State(load_game(path))
    except ValueError as error:
        return REFUSED, str(error)
    for command in state.game.walkthrough:
        step(state, command)
    return ("", "") if state.won else (LOST, "")
