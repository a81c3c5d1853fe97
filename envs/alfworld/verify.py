"""The proof that the native engine is ALFWorld: the same walks in both engines, compared after
every command.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from envs.alfworld.engines.engine import Engine, Frame
from envs.alfworld.engines.game import load_game
from envs.alfworld.engines.native import NativeEngine
from envs.alfworld.engines.rules import RULES

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
_SPACING: tuple[Callable[[str], str], ...] = (
    lambda command: f"  {command}",
    lambda command: f"{command} \n",
    lambda command: f"\t{command}\t",
    lambda command: command.replace(" ", "  ", 1),
    lambda command: command.upper(),
    lambda command: f"{command}.",
)


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Where the engines first differed: after which commands of which walk, in what, and what each
    of them gave.
    """

    game: str
    walk: str
    commands: tuple[str, ...]
    part: str
    native: str
    textworld: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the walks through one game came to. A transition is one command and what followed from
    it.
    """

    transitions: int
    wins: int
    mismatches: tuple[Mismatch, ...]


def compare_engines(
    path: Path, game_id: str, *, turns: int, seed: int, textworld: Engine
) -> Comparison:
    """Walk through a game at random, with the expert and against all rules, up to `turns` commands
    each.

    `textworld` is the stock engine, made with `facts=True`. Compared are the observation, the
    admissible commands, reward, done and won, and the facts that the expert sees. A walk ends at
    its first mismatch.

    Raises:
        ValueError: one of the engines cannot play the game.
    """
    native = NativeEngine(facts=True)
    transitions, wins, mismatches = 0, 0, []
    for walk in WALKS:
        rng = random.Random(f"{seed}/{walk}/{game_id}")
        commands: list[str] = []
        frames = native.reset(path), textworld.reset(path)
        choose = WALKS[walk](path, game_id, rng)
        while True:
            part = _difference(*frames)
            if part is not None:
                theirs, ours = (str(getattr(frame, part)) for frame in frames)
                mismatches.append(
                    Mismatch(
                        game=game_id,
                        walk=walk,
                        commands=tuple(commands),
                        part=part,
                        native=theirs,
                        textworld=ours,
                    )
                )
            if part is not None or frames[0].done or len(commands) == turns:
                break
            commands.append(choose(frames[0], commands))
            frames = native.step(commands[-1]), textworld.step(commands[-1])
        transitions += len(commands)
        wins += frames[0].won
    return Comparison(transitions=transitions, wins=wins, mismatches=tuple(mismatches))


def _difference(native: Frame, textworld: Frame) -> str | None:
    return next(
        (f.name for f in fields(Frame) if getattr(native, f.name) != getattr(textworld, f.name)),
        None,
    )


Choose = Callable[[Frame, list[str]], str]
"""The next command of a walk, from the frame and the commands so far."""


def _at_random(path: Path, game_id: str, rng: random.Random) -> Choose:
    """A verb at random and then one of its commands, so that going somewhere is not most of what is
    done.
    """

    def choose(frame: Frame, _: list[str]) -> str:
        verb = rng.choice(sorted({command.partition(" ")[0] for command in frame.commands}))
        return rng.choice(
            [command for command in frame.commands if command.partition(" ")[0] == verb]
        )

    return choose


def _with_expert(path: Path, game_id: str, rng: random.Random) -> Choose:
    from envs.alfworld.experts.handcoded import HandcodedExpert

    expert = HandcodedExpert(game_id, rng.randrange(2**31))

    def choose(frame: Frame, commands: list[str]) -> str:
        advice = expert.advise(frame, commands[-1]) if commands else expert.start(frame)
        return advice or "look"

    return choose


def _against_the_rules(path: Path, game_id: str, rng: random.Random) -> Choose:
    """Admissible commands half of the time, so that the state changes; else every form about
    anything, and worse.
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
