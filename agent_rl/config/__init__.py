"""The configuration of a run: YAML in, one checked `Config` out."""

from agent_rl.config.config import Config
from agent_rl.config.errors import ConfigError, explain
from agent_rl.config.loading import (
    dump_config,
    load_config,
    load_run_config,
    read_options,
)
from agent_rl.config.sections import EvaluationSettings, SweepSettings, TaskFilter, TrainSettings

__all__ = [
    "Config",
    "ConfigError",
    "EvaluationSettings",
    "SweepSettings",
    "TaskFilter",
    "TrainSettings",
    "dump_config",
    "explain",
    "load_config",
    "load_run_config",
    "read_options",
]
