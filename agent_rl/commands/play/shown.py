"""An environment whose episode is shown at the terminal while a policy plays it."""

import sys
from typing import Any

from rich.markup import escape

from agent_rl.display import console, show_observation, show_outcome
from envs import TextEnv, reset_fault, step_fault
from envs.text_env import EnvWrapper


class ShownEnv(EnvWrapper):
    """Shows each observation, command and reward of `env`.

    At a terminal each step waits for Enter. After the end of the input (Ctrl-D) the rest runs
    without waiting.
    """

    def __init__(self, env: TextEnv) -> None:
        """Wrap an environment for one episode."""
        super().__init__(env)
        self._turns = 0
        self._waits = sys.stdin.isatty()
        self._admissible: list[str] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        answer = super().reset(seed=seed, options=options)
        # An answer that breaks the contract ends the episode; it may hold anything.
        if not reset_fault(answer):
            self._show(*answer)
        return answer

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._wait()
        self._turns += 1
        console.print(f"{self._turns:>3} > {escape(action)}", style="bold", end="")
        answer = super().step(action)
        if not step_fault(answer):
            observation, reward, _, _, info = answer
            show_outcome(reward, admissible=self._admissible is None or action in self._admissible)
            self._show(observation, info)
        return answer

    def _wait(self) -> None:
        if self._waits:
            try:
                input("    (Enter) ")
            except EOFError:
                console.print()
                self._waits = False

    def _show(self, observation: str, info: dict[str, Any]) -> None:
        show_observation(observation)
        self._admissible = info.get("admissible_commands")
