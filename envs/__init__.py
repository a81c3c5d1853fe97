"""Text environments: gymnasium environments whose observation and action are strings."""

from envs.registry import make_env
from envs.task import Task
from envs.text_env import TextEnv

__all__ = ["Task", "TextEnv", "make_env"]
