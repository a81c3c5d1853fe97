"""The state of one episode in the native engine."""

from typing import Self

from envs.alfworld.engines.game import Game, Receptacle, Thing
from envs.alfworld.names import AGENT, CHANGES


class State:
    """One episode of a game, as far as it has been played. The rules change it.

    Each part is an immutable value that a rule replaces. A clone therefore shares all parts with
    the original, and takes a microsecond.
    """

    __slots__ = (
        "at",
        "changed",
        "contents",
        "game",
        "held",
        "left",
        "lit",
        "opened",
        "sliced",
        "spots",
    )

    def __init__(self, game: Game) -> None:
        self.game = game
        self.at = game.start
        """The player's location."""
        self.held: Thing | None = None
        """The thing in hand."""
        self.contents = game.contents
        """The things in each receptacle."""
        self.spots = game.spots
        """Pairs of a thing and a location from which it can be sliced."""
        self.opened: frozenset[Receptacle] = frozenset()
        self.changed: dict[str, frozenset[Thing]] = {
            "clean": frozenset(),
            "heat": frozenset(),
            "cool": game.cool,
        }
        """By verb of `CHANGES`: the things that are clean, hot and cool."""
        self.sliced: frozenset[Thing] = frozenset()
        self.lit: frozenset[Thing] = frozenset()
        """The things that have been turned on."""
        self.left: frozenset[tuple[Thing, Receptacle]] = frozenset()
        """Pairs of a thing and a receptacle from which it was taken; `look` needs them."""

    def clone(self) -> Self:
        """A copy of this state; neither affects the other."""
        copy = type(self).__new__(type(self))
        for part in State.__slots__:
            setattr(copy, part, getattr(self, part))
        return copy

    @property
    def here(self) -> tuple[Receptacle, ...]:
        """The receptacles at the player's location."""
        return self.game.at.get(self.at, ())

    def accessible(self, place: Receptacle) -> bool:
        """Whether `place` is here and not closed."""
        return place.location == self.at and (not place.openable or place in self.opened)

    @property
    def won(self) -> bool:
        """Whether the goal is reached now."""
        goal = self.game.goal
        if goal.lamp:
            holds_it = self.held is not None and self.held.type == goal.thing
            return holds_it and self._in_light(goal.target)
        for place in self.game.targets:
            if sum(map(self._is_wanted, self.contents[place])) >= goal.count:
                return True
        return False

    def _in_light(self, lamp_type: str) -> bool:
        """Whether a lamp of this type is on at the player's location, also in a closed place."""
        for place in self.here:
            for thing in self.contents[place]:
                if thing.type == lamp_type and thing in self.lit:
                    return True
        return False

    def _is_wanted(self, thing: Thing) -> bool:
        """Whether `thing` is of the goal's type, and has been cleaned, heated or cooled if asked.

        The domain asks for the ability too: a cool thing that is not coolable does not count.
        """
        goal = self.game.goal
        if thing.type != goal.thing:
            return False
        if not goal.verb:
            return True
        return goal.verb in thing.abilities and thing in self.changed[goal.verb]

    def facts(self) -> tuple[str, ...]:
        """The true facts of `EXPERT_FACTS`, sorted, as the stock engine writes them.

        For example `("holds agent1 mug 1", "inreceptacle apple 1 fridge 1", "isclean mug 1")`.
        """
        facts = []
        if self.held is not None:
            facts.append(f"holds {AGENT} {self.held.name}")
        for place, things in self.contents.items():
            facts += [f"inreceptacle {thing.name} {place.name}" for thing in things]
        for verb, changed in self.changed.items():
            mark = CHANGES[verb].mark
            facts += [f"{mark} {thing.name}" for thing in changed]
        return tuple(sorted(facts))
