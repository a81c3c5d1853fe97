"""The configuration of a run: YAML in, one checked `Config` out."""

from agent_rl.config.config import Config
from agent_rl.config.loading import (
    ConfigError,
    dump_config,
    explain,
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
