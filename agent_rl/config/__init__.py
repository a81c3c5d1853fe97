"""The configuration of a run: YAML in, one checked `Config` out."""

from agent_rl.config.config import (
    Config,
    ConfigError,
    EvaluationSettings,
    SweepSettings,
    TaskFilter,
    TrainSettings,
    dump_config,
    explain,
    load_config,
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
    "read_options",
]
