"""ALFWorld's stock engine: alfworld's wrappers on textworld's PDDL interpreter."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Self

from envs.alfworld.data import broken_game, read_game
from envs.alfworld.engines.engine import EXPERT_FACTS, Frame
from envs.alfworld.package import import_alfworld

_IDLE_ENGINES: dict[bool, list[Any]] = {False: [], True: []}
"""Engines that were closed, by whether they give facts. An engine is never unloaded: its library is
a copy of its own, whose unloading makes the process crash when it ends.
"""

_TRANSLATIONS = 16


class TextworldEngine:
    """Loads and resets in half a second to a second, and steps in tens of milliseconds. Not
    thread-safe, not even for stepping. Holds 34 MB until the process ends; `close()` leaves it to
    the next.
    """

    def __init__(self, *, facts: bool = False) -> None:
        self._facts = facts
        self._engine: Any = None
        self._loaded: Path | None = None

    def reset(self, path: Path) -> Frame:
        if path != self._loaded:
            self.load(path)
        with _translator_kept_in(path):
            return self._frame(self._engine.reset())

    def step(self, command: str) -> Frame:
        state, score, done = self._engine.step(command)
        return self._frame(state, reward=float(score), done=bool(done))

    def clone(self) -> Self:
        raise NotImplementedError("the textworld engine cannot be copied; use engine: native")

    def close(self) -> None:
        if self._engine is not None:
            _IDLE_ENGINES[self._facts].append(self._engine)
        self._engine, self._loaded = None, None

    def load(self, path: Path) -> None:
        """Load the game; `reset` does it where need be."""
        self._loaded = None
        read_game(path)
        with _translator_kept_in(path):
            if self._engine is None and _IDLE_ENGINES[self._facts]:
                self._engine = _IDLE_ENGINES[self._facts].pop()
            if self._engine is None:
                self._engine = _start(path, facts=self._facts)
            else:
                self._engine.load(str(path))
        self._loaded = path

    def _frame(self, state: Any, *, reward: float = 0.0, done: bool = False) -> Frame:
        facts: tuple[str, ...] = ()
        if self._facts:
            facts = tuple(
                sorted(
                    " ".join((fact.name, *(name.strip() for name in fact.names)))
                    for fact in state["facts"]
                    if fact.name in EXPERT_FACTS
                )
            )
        commands = list(state["admissible_commands"])
        return Frame(
            text=state["feedback"].strip(),
            commands=commands,
            won=bool(state["won"]),
            reward=reward,
            done=done,
            facts=facts,
        )


def _start(path: Path, *, facts: bool) -> Any:
    """An engine with the game loaded; facts cost time at every step."""
    alfred = import_alfworld("alfworld.agents.environment.alfred_tw_env")
    _remember_translations()
    import textworld

    infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=facts)
    return textworld.start(
        str(path), infos, wrappers=[alfred.AlfredDemangler(shuffle=False), alfred.AlfredInfos]
    )


@cache
def _remember_translations() -> Any:
    """Four times per game and reset, the engine has the same problem translated, a pure function of
    its text.
    """
    import fast_downward

    fast_downward.pddl2sas = lru_cache(_TRANSLATIONS)(fast_downward.pddl2sas)
    return fast_downward.pddl2sas


def forget_translations() -> None:
    """Make the engine do all of its work again, as it comes."""
    _remember_translations().cache_clear()


@contextmanager
def _translator_kept_in(path: Path) -> Iterator[None]:
    """The PDDL translator overwrites `sys.argv`, swaps `sys.stdout` and raises `SystemExit` on a
    bad problem.
    """
    argv, stdout = sys.argv, sys.stdout
    try:
        yield
    except (OSError, MemoryError):
        raise
    except (SystemExit, Exception) as error:
        # Each of the engine's four parsers has its own exceptions for text that it cannot read.
        raise broken_game(
            path, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    finally:
        sys.argv, sys.stdout = argv, stdout
