"""The native engine: ALFWorld's rules in Python, on games that are parsed once per process."""

from pathlib import Path
from typing import Self

from envs.alfworld.engines import rules
from envs.alfworld.engines.engine import Frame
from envs.alfworld.engines.game import Variation, load_game
from envs.alfworld.engines.state import State


class NativeEngine:
    """Plays by ALFWorld's rules in Python, a step in microseconds. Parsed games are shared."""

    def __init__(self, *, facts: bool = False) -> None:
        self._facts = facts
        self._state: State | None = None

    def reset(self, path: Path, vary: Variation | None = None) -> Frame:
        self._state = State(load_game(path, vary))
        return self._frame(self._state, rules.intro(self._state), done=False)

    def step(self, command: str) -> Frame:
        assert self._state is not None, "reset comes first"
        text = rules.step(self._state, command)
        return self._frame(self._state, text, done=self._state.won)

    def clone(self) -> Self:
        twin = type(self)(facts=self._facts)
        twin._state = None if self._state is None else self._state.clone()
        return twin

    def close(self) -> None:
        self._state = None

    def _frame(self, state: State, text: str, *, done: bool) -> Frame:
        return Frame(
            text=text,
            commands=rules.admissible_commands(state),
            won=state.won,
            reward=float(done),
            done=done,
            facts=state.facts() if self._facts else (),
        )
