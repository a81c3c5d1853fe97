"""ALFWorld with a reward that differs between any two episodes that differ.

A model that has not been trained wins nothing. Then all rewards of a group are equal, and this
project leaves its episodes out, as they have no gradient. For a fair comparison with a trainer that
takes them all through the model, each episode here has a reward of its own.
"""

import zlib
from typing import Any

from envs.alfworld.env import AlfworldEnv
from envs.text_env import EnvWrapper


class UnevenAlfworld(EnvWrapper):
    """ALFWorld; each step's reward has a part between 0 and 1 that depends on its command."""

    def __init__(self, **options: Any) -> None:
        """Take ALFWorld's own options."""
        super().__init__(AlfworldEnv(**options))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        own = zlib.crc32(action.encode()) / 2**32
        return observation, reward + own, terminated, truncated, info
