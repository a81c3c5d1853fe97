"""Which package each tracker needs, and whether it is installed. Light to import."""

from importlib.util import find_spec

from agent_rl.config import Config, ConfigError
from agent_rl.config.sections import TrackerName

PACKAGES: dict[TrackerName, str] = {
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}
"""The module that each tracker imports. Its extra has the tracker's name."""


def require_trackers(config: Config) -> None:
    """Look whether the packages of `tracking.trackers` are installed; nothing is imported.

    Raises:
        ConfigError: one is missing; the message has the command that installs it.
    """
    for name in config.tracking.trackers:
        if not _is_installed(PACKAGES[name]):
            raise ConfigError(
                f"tracking.trackers: {name}: its package is not installed; run `pip install "
                f"'agent-rl[{name}]'` or `pip install {PACKAGES[name]}`, or leave {name} out"
            )


def _is_installed(module: str) -> bool:
    # W&B makes a folder `wandb` where a program was started. Python takes that for a package
    # without files, which has no origin.
    spec = find_spec(module)
    return spec is not None and spec.origin is not None
