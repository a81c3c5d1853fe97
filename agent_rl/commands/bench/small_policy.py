"""A small policy from scratch, for benchmarks that no model was named for."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from agent_rl.config import Config, ConfigError, explain, read_options

_SIZES = (
    "model.hidden_size=256",
    "model.layers=4",
    "model.heads=4",
    "model.kv_heads=4",
    "model.intermediate_size=512",
)


def small_config(folder: Path, settings: Sequence[str]) -> Config:
    """Return the config of a small policy.

    Args:
        folder: the run folder, where `make_small_policy` writes.
        settings: `key.path=value`; they name at least the world, `env.id`.

    Raises:
        ConfigError: a setting is wrong.
    """
    try:
        values = read_options([f"run_folder={folder}", *_SIZES, *settings])
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(Path("the settings"), error)) from error


def make_small_policy(config: Config) -> str:
    """Make the policy of a config, with a tokenizer of its world's texts; returns its folder."""
    from agent_rl.commands.stages.init import init

    return str(init(config))
