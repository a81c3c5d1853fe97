"""Counts where things usually are, and writes the table `places.json` from the training games.

    python -m envs.alfworld.experts.count_places FOLDER > places.json
    mv places.json envs/alfworld/experts/

`FOLDER` is a data folder as in `env.options.data`. Only its training games are read, which takes
half a minute.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from envs.alfworld.data import game_path, index_games, resolve_data_folder
from envs.alfworld.engines.game import Game, parse_game
from envs.alfworld.experts.notes import kind_of
from envs.alfworld.names import TRAIN

_GO = 1
_GO_AND_OPEN = 2
"""The number of commands that it takes to look into a place."""


def count_places(games: Iterable[Game]) -> dict[str, tuple[str, ...]]:
    """For each kind of thing, the kinds of places that hold some, the best to look into first.

    Places are ordered by finds per command, and by name if equal. A find is a place that holds at
    least one such thing. The commands are those that it takes to look into all places of the kind.
    Only games that have such a thing in a place count.

    With a mug in one of two shelves and in the only fridge, shelves have 1 find in 2 commands
    (`go to` twice), and fridges 1 find in 2 commands (`go to`, `open`).
    """
    finds: Counter[tuple[str, str]] = Counter()
    commands: Counter[tuple[str, str]] = Counter()
    for game in games:
        kinds_in = {}
        for place, things in game.contents.items():
            kinds_in[place] = {kind_of(thing.name) for thing in things}
        present = set().union(*kinds_in.values())
        for place, kinds in kinds_in.items():
            place_kind = kind_of(place.name)
            finds.update((kind, place_kind) for kind in kinds)
            needed = _GO_AND_OPEN if place.openable else _GO
            commands.update({(kind, place_kind): needed for kind in present})

    def order(pair: tuple[str, str]) -> tuple[str, float, str]:
        kind, place_kind = pair
        return kind, -finds[pair] / commands[pair], place_kind

    table: dict[str, tuple[str, ...]] = {}
    for kind, place_kind in sorted(finds, key=order):
        table[kind] = (*table.get(kind, ()), place_kind)
    return table


def table_text(table: Mapping[str, Sequence[str]]) -> str:
    """The table as JSON, one kind of thing per line: a change is readable in a diff."""
    lines = []
    for kind, places in table.items():
        lines.append(f"  {json.dumps(kind)}: {json.dumps(list(places))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def print_places(arguments: Sequence[str]) -> None:
    """Print the table for the data folder that the command line names."""
    if len(arguments) != 1:
        sys.exit("usage: python -m envs.alfworld.experts.count_places FOLDER")
    try:
        folder = resolve_data_folder(arguments[0])
        paths = [game_path(folder, TRAIN, game.id) for game in index_games(folder, TRAIN)]
        print(table_text(count_places(parse_game(path) for path in paths)), end="")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    print_places(sys.argv[1:])
