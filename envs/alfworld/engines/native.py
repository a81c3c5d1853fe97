"""ALFWorld's native engine: the rules of `envs.alfworld.engines.rules` on games that are parsed
once.
"""

from pathlib import Path
from typing import Self

from envs.alfworld.engines.engine import Frame
from envs.alfworld.engines.game import load_game
from envs.alfworld.engines.rules import State


class NativeEngine:
    """Steps in microseconds; all engines of a process share the games that they play."""

    def __init__(self, *, facts: bool = False) -> None:
        self._facts = facts
        self._state: State | None = None

    def reset(self, path: Path) -> Frame:
        self._state = State(load_game(path))
        return self._frame(self._state, self._state.intro(), done=False)

    def step(self, command: str) -> Frame:
        assert self._state is not None, "reset comes first"
        text = self._state.step(command)
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
            commands=state.admissible_commands(),
            won=state.won,
            reward=float(done),
            done=done,
            facts=state.facts() if self._facts else (),
        )
