"""Text environments: gymnasium environments whose observation and action are strings."""

from envs.conformance.report import check_env
from envs.registry import make_env
from envs.task import Task
from envs.text_env import TextEnv
from envs.validation import reset_fault, step_fault

__all__ = ["Task", "TextEnv", "check_env", "make_env", "reset_fault", "step_fault"]
