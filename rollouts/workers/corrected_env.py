"""An environment that gives an episode up when its player has strayed from the expert's advice."""

from typing import Any

from envs.text_env import EnvWrapper, TextEnv


class CorrectedEnv(EnvWrapper):
    """Cuts an episode short after so many commands that the expert would not have sent.

    Episodes that are played to be corrected (`agent_rl.training.own_episodes`) need no more turns.
    """

    def __init__(self, env: TextEnv, most: int) -> None:
        """Wrap an environment that was made with its expert.

        Args:
            env: its info has `expert_command` where the expert knows one.
            most: the number of other commands at which the episode is truncated.
        """
        super().__init__(env)
        self._most = most
        self._other = 0
        self._advice: str | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        text, info = super().reset(seed=seed, options=options)
        self._other, self._advice = 0, info.get("expert_command")
        return text, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._other += self._advice not in (None, action)
        text, reward, terminated, truncated, info = super().step(action)
        self._advice = info.get("expert_command")
        return text, reward, terminated, truncated or self._other >= self._most, info
