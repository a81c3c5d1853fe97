"""What is wrong with a folder of ALFWorld games: files cut off, missing, of another version, or
that nobody can win.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from envs.alfworld.data import GAME_FILE, game_folders, read_game
from envs.alfworld.engines.game import load_game
from envs.alfworld.engines.rules import State
from envs.alfworld.names import FAMILIES, SPLITS

OFFICIAL_COUNTS = {
    "train": (790, 308, 650, 459, 533, 813),
    "valid_seen": (35, 13, 27, 16, 25, 24),
    "valid_unseen": (24, 18, 31, 23, 21, 17),
}
"""Games of the published data by split, in the order of `FAMILIES`."""

STRANGE = "of no known family"
MISSING = "no game file"
UNREADABLE = "unreadable"
OLD_GRAMMAR = "older grammar"
UNSOLVABLE = "not solvable"
LOST = "walkthrough does not win"
REFUSED = "not for the native engine"

WAYS_OUT = {
    STRANGE: "move these folders out of the data folder, or give them the names that they had",
    MISSING: "they are not played; where a count falls short, the download or the unpacking broke off: do it again",
    UNREADABLE: "delete these files, then run `agent-rl games download` again, or unpack the archive again",
    OLD_GRAMMAR: "they say `put X in/on Y` where games since alfworld 0.4 say `move X to Y`, as do models trained on "
    "those: fetch the data anew with `agent-rl games download`, into an empty folder",
    UNSOLVABLE: "they are marked so and never played; nothing need be done",
    LOST: "the file has been changed: delete it, then run `agent-rl games download` again",
    REFUSED: "set env.options.engine: textworld to play them with the stock engine",
}


@dataclass
class Diagnosis:
    """Playable games per split and family, and the games with each complaint, with the reason where
    there is one.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    complaints: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def healthy(self) -> bool:
        """Whether there are games, and all can be played but those that the published data has no
        file for either.
        """
        harmless = {
            UNSOLVABLE,
            *(() if any(map(self.differs_from_official, self.counts)) else (MISSING,)),
        }
        return any(self.counts.values()) and not set(self.complaints) - harmless

    def differs_from_official(self, split: str) -> bool:
        return tuple(self.counts[split][family] for family in FAMILIES) != OFFICIAL_COUNTS[split]


def examine(folder: Path, on_game: Callable[[str], None] = lambda game_id: None) -> Diagnosis:
    """Read every game of a data folder and play its walkthrough in the native engine.

    `on_game` is called with the id of each game that was read.
    """
    diagnosis = Diagnosis()
    for split in SPLITS:
        if (folder / split).is_dir():
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
    """The first complaint about a game, of a family that is known or not, and the reason; empty
    where all is well.
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
        state.step(command)
    return ("", "") if state.won else (LOST, "")
