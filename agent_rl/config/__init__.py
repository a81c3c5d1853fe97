"""The configuration of a run: YAML in, one checked `Config` out."""

from agent_rl.config.config import (
    Config,
    EvaluationSettings,
    SweepSettings,
    TaskFilter,
    TrainSettings,
)
from agent_rl.config.loading import (
    ConfigError,
    dump_config,
    explain,
    load_config,
    load_run_config,
    read_options,
)

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
