"""Where things usually are, counted: writes the table of `envs.alfworld.experts.places` from the
training games.

    python -m envs.alfworld.experts.count_places FOLDER > places.py && mv places.py
    envs/alfworld/experts/places.py

`FOLDER` is a data folder as in `env.options.data`. The training games alone are read, in half a
minute.
"""

import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from envs.alfworld.data import game_path, index_games, resolve_data_folder
from envs.alfworld.engines.game import Game, load_game
from envs.alfworld.experts.notes import kind_of

_COMMANDS = {False: 1, True: 2}
"""How many commands it takes to look into a place, by whether it can be opened: to go there, and to
open it.
"""
_HEAD = '''\
"""Where things usually are. Written by `python -m envs.alfworld.experts.count_places`, from the training games; not by hand."""

PLACES = {
    kind: tuple(places.split())
    for kind, _, places in (
        line.partition(": ")
        for line in """\\
'''
_TAIL = '''\
""".splitlines()
    )
}
"""For each kind of thing the kinds of places where one was seen, the best to look into first."""
'''


def count_places(games: Iterable[Game]) -> dict[str, tuple[str, ...]]:
    """For each kind of thing the kinds of places that hold some, by the finds per command; where
    equal, by name.

    Counted over the games that have such a thing in a place. A find is a place with at least one of
    them, and the commands are those that it takes to look into all places of the kind.
    """
    finds: Counter[tuple[str, str]] = Counter()
    commands: Counter[tuple[str, str]] = Counter()
    for game in games:
        holds = [
            (
                kind_of(place.name),
                _COMMANDS[place.openable],
                {kind_of(thing.name) for thing in things},
            )
            for place, things in game.contents.items()
        ]
        present = set().union(*(kinds for _, _, kinds in holds))
        for place, needed, kinds in holds:
            finds.update((thing, place) for thing in kinds)
            commands.update({(thing, place): needed for thing in present})
    found: dict[str, list[str]] = {}
    for thing, place in sorted(
        finds, key=lambda pair: (pair[0], -finds[pair] / commands[pair], pair[1])
    ):
        found.setdefault(thing, []).append(place)
    return {thing: tuple(places) for thing, places in found.items()}


def written(places: Mapping[str, Sequence[str]]) -> str:
    """The source of a module with this table; a line that goes on ends with a backslash."""
    lines = [
        " \\\n".join(textwrap.wrap(f"{kind}: {' '.join(kinds)}", width=116, break_long_words=False))
        for kind, kinds in places.items()
    ]
    return _HEAD + "".join(f"{line}\n" for line in lines) + _TAIL


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        sys.exit("usage: python -m envs.alfworld.experts.count_places FOLDER")
    try:
        folder = resolve_data_folder(arguments[0])
        games = index_games(folder, "train")
        print(
            written(count_places(load_game(game_path(folder, "train", game.id)) for game in games)),
            end="",
        )
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
