"""ALFWorld's stock engine: alfworld's wrappers around textworld's PDDL interpreter."""

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Self

from envs.alfworld.data import broken_game, read_game
from envs.alfworld.engines.engine import EXPERT_FACTS, Frame
from envs.alfworld.engines.game import Variation
from envs.alfworld.package import import_alfworld

_IDLE_ENGINES: dict[bool, list[Any]] = {False: [], True: []}
"""Closed engines to use again, by whether they give facts.

An engine is never unloaded. Each loads its own copy of a shared library, and unloading that makes
the process crash at its end.
"""

_SHOWN = ("name", "id", "type", "definite", "indefinite", "noun", "adj", "desc")
"""What a game's grammar may say of a thing."""
_TRANSLATIONS = 16
"""Translated problems in memory: those of the games that a process plays by turns."""


class TextworldEngine:
    """Plays with textworld's interpreter: up to a second a reset, tens of milliseconds a step.

    It is not thread-safe, not even for stepping. It holds 34 MB until the process ends; after
    `close()` the next engine uses them.
    """

    def __init__(self, *, facts: bool = False) -> None:
        self._facts = facts
        self._engine: Any = None
        self._loaded: Path | None = None

    def reset(self, path: Path, vary: Variation | None = None) -> Frame:
        if vary is not None:
            raise ValueError("the textworld engine plays no varied games; use engine: native")
        if path != self._loaded:
            self.load(path)
        with _translator_contained(path):
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
        """Load the game, without starting it; `reset` calls this if needed."""
        self._loaded = None
        read_game(path)  # raises an error that names the file, unlike the engine
        with _translator_contained(path):
            if self._engine is None and _IDLE_ENGINES[self._facts]:
                self._engine = _IDLE_ENGINES[self._facts].pop()
            if self._engine is None:
                self._engine = _start(path, facts=self._facts)
            else:
                self._engine.load(str(path))
        self._loaded = path

    def _frame(self, state: Any, *, reward: float = 0.0, done: bool = False) -> Frame:
        return Frame(
            text=state["feedback"].strip(),
            commands=list(state["admissible_commands"]),
            won=bool(state["won"]),
            reward=reward,
            done=done,
            facts=_expert_facts(state["facts"]) if self._facts else (),
        )


def _expert_facts(facts: Any) -> tuple[str, ...]:
    """The facts of `EXPERT_FACTS`, sorted, as `predicate name name`."""
    lines = []
    for fact in facts:
        if fact.name in EXPERT_FACTS:
            lines.append(" ".join((fact.name, *(name.strip() for name in fact.names))))
    return tuple(sorted(lines))


def _start(path: Path, *, facts: bool) -> Any:
    """A new engine with the game loaded. Facts cost time at every step."""
    alfred = import_alfworld("alfworld.agents.environment.alfred_tw_env")
    _remember_translations()
    _run_no_expressions()
    import textworld

    infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=facts)
    return textworld.start(
        str(path), infos, wrappers=[alfred.AlfredDemangler(shuffle=False), alfred.AlfredInfos]
    )


@cache
def _remember_translations() -> Any:
    """Let the engine translate each problem once; returns the translating function.

    The engine translates the same problem four times for each game and reset. The result depends
    on the problem's text alone.
    """
    import fast_downward

    fast_downward.pddl2sas = lru_cache(_TRANSLATIONS)(fast_downward.pddl2sas)
    return fast_downward.pddl2sas


@cache
def _run_no_expressions() -> None:
    """Let the engine look words up where it would run what a game's grammar says as Python.

    A grammar writes `{o.name}`, `{r.name or r.id}` or `{o.indefinite + ' ' + o.name}`. The engine
    gives that to `eval`, and a game file from elsewhere could hold any program there.
    """
    from textworld.envs.pddl import textgen

    def derive(symbol: Any, context: Any = None) -> list[Any]:
        variables = (context or symbol.context)["variables"]
        return [textgen.TerminalSymbol(_looked_up(symbol.expression, variables))]

    textgen.EvalSymbol.derive = derive


def _looked_up(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of an expression of words about the game's things, quoted texts, `or` and `+`.

    Raises:
        RuntimeError: the expression is more than that. The engine takes a `ValueError` for a
            command that is not admissible.
    """
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body, variables)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        message = f"its grammar has an expression that is not run: {expression!r}"
        raise RuntimeError(message) from error


def _value(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    match node:
        case ast.BoolOp(op=ast.Or(), values=parts):
            values = (_value(part, variables) for part in parts)
            return functools.reduce(lambda first, second: first or second, values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _value(left, variables) + _value(right, variables)
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in variables:
            return variables[name]
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if (
            name in variables and attribute in _SHOWN
        ):
            return getattr(variables[name], attribute)
    raise ValueError(ast.dump(node))


def forget_translations() -> None:
    """Make the engine translate again, to include the translation in a measurement."""
    _remember_translations().cache_clear()


@contextmanager
def _translator_contained(path: Path) -> Iterator[None]:
    """Undo the side effects of the PDDL translator, and turn its failures into `ValueError`s.

    The translator overwrites `sys.argv`, swaps `sys.stdout`, and raises `SystemExit` on a bad
    problem.
    """
    argv, stdout = sys.argv, sys.stdout
    try:
        yield
    except (OSError, MemoryError):
        raise
    except (SystemExit, Exception) as error:
        # Each of the engine's four parsers has its own exceptions for text that it cannot read.
        first_line = str(error).partition("\n")[0]
        raise broken_game(path, f"{type(error).__name__}: {first_line}") from error
    finally:
        sys.argv, sys.stdout = argv, stdout
