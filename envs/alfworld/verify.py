"""Compares the two engines: the same walks through a game in both, compared after every command."""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from envs.alfworld.engines.engine import Engine, Frame
from envs.alfworld.engines.game import load_game
from envs.alfworld.engines.native import NativeEngine
from envs.alfworld.engines.rules import RULES

Choose = Callable[[Frame, list[str]], str]
"""Returns the next command of a walk, given the last frame and the commands so far."""

_ODD = (
    "",
    " ",
    "take",
    "go to",
    "look around",
    "LOOK",
    "examine",
    "help me",
    "open the door",
    "näh \u4f60 \x07",
    "a" * 400,
)
"""Commands that no rule allows."""
_SPACING: tuple[Callable[[str], str], ...] = (
    lambda command: f"  {command}",
    lambda command: f"{command} \n",
    lambda command: f"\t{command}\t",
    lambda command: command.replace(" ", "  ", 1),
    lambda command: command.upper(),
    lambda command: f"{command}.",
)
"""Ways to misspell an admissible command; some are still admissible."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """The first difference between the engines in a walk."""

    game: str
    """The game's id."""
    walk: str
    """The walk, one of `WALKS`."""
    commands: tuple[str, ...]
    """The commands up to the difference."""
    part: str
    """The field of `Frame` that differs."""
    native: str
    """Its value in the native engine, as text."""
    textworld: str
    """Its value in the stock engine, as text."""


@dataclass(frozen=True, kw_only=True)
class EngineComparison:
    """The result of all walks through one game."""

    transitions: int
    """The number of commands that both engines got."""
    wins: int
    """The number of walks that ended by winning."""
    mismatches: tuple[Mismatch, ...]
    """At most one for each walk."""


def compare_engines(
    path: Path, game_id: str, *, turns: int, seed: int, textworld: Engine
) -> EngineComparison:
    """Walk through a game in both engines, once for each of `WALKS`.

    Compared are the observation, the admissible commands, reward, done and won, and the facts for
    the expert. A walk ends at its first mismatch.

    Args:
        path: the game's file.
        game_id: its id, for the expert and the report.
        turns: the most commands in a walk.
        seed: decides the walks, together with `game_id`.
        textworld: the stock engine, made with `facts=True`.

    Raises:
        ValueError: one of the engines cannot play the game.
    """
    native = NativeEngine(facts=True)
    transitions, wins, mismatches = 0, 0, []
    for walk, make_walk in WALKS.items():
        choose = make_walk(path, game_id, random.Random(f"{seed}/{walk}/{game_id}"))
        commands: list[str] = []
        ours, theirs = native.reset(path), textworld.reset(path)
        while True:
            part = _differing_part(ours, theirs)
            if part is not None:
                mismatch = Mismatch(
                    game=game_id,
                    walk=walk,
                    commands=tuple(commands),
                    part=part,
                    native=str(getattr(ours, part)),
                    textworld=str(getattr(theirs, part)),
                )
                mismatches.append(mismatch)
                break
            if ours.done or len(commands) == turns:
                break
            commands.append(choose(ours, commands))
            ours, theirs = native.step(commands[-1]), textworld.step(commands[-1])
        transitions += len(commands)
        wins += ours.won
    return EngineComparison(transitions=transitions, wins=wins, mismatches=tuple(mismatches))


def _differing_part(ours: Frame, theirs: Frame) -> str | None:
    """The first field in which two frames differ; None if they are equal."""
    for part in fields(Frame):
        if getattr(ours, part.name) != getattr(theirs, part.name):
            return part.name
    return None


def _at_random(path: Path, game_id: str, rng: random.Random) -> Choose:
    """Draw a verb, then one of its commands; otherwise most commands would be `go to`."""

    def choose(frame: Frame, _: list[str]) -> str:
        by_verb: dict[str, list[str]] = {}
        for command in frame.commands:
            by_verb.setdefault(command.partition(" ")[0], []).append(command)
        return rng.choice(by_verb[rng.choice(sorted(by_verb))])

    return choose


def _with_expert(path: Path, game_id: str, rng: random.Random) -> Choose:
    """Follow the handcoded expert."""
    # Imported late: this module imports the alfworld package, which takes seconds.
    from envs.alfworld.experts.handcoded import HandcodedExpert

    expert = HandcodedExpert(game_id, rng.randrange(2**31))

    def choose(frame: Frame, commands: list[str]) -> str:
        advice = expert.advise(frame, commands[-1]) if commands else expert.start(frame)
        return advice or "look"

    return choose


def _against_the_rules(path: Path, game_id: str, rng: random.Random) -> Choose:
    """Break the rules half of the time, with every form of command about anything in the game.

    The other half are admissible commands; without them the state would not change.
    """
    game = load_game(path)
    names = [*game.things, *game.receptacles]
    forms = [rule.form for rules in RULES.values() for rule in rules]
    at_random = _at_random(path, game_id, rng)

    def choose(frame: Frame, commands: list[str]) -> str:
        kind = rng.random()
        if kind < 0.5:
            return at_random(frame, commands)
        if kind < 0.6:
            return rng.choice(_SPACING)(at_random(frame, commands))
        if kind < 0.65:
            return rng.choice(_ODD)
        form = rng.choice(forms)
        return form.format(*rng.choices(names, k=form.count("{}")))

    return choose


WALKS: dict[str, Callable[[Path, str, random.Random], Choose]] = {
    "random": _at_random,
    "expert": _with_expert,
    "adversarial": _against_the_rules,
}
"""By name: makes a walk through the game in a file, of that id, with that random generator."""
