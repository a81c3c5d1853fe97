"""Resolves WHAT in `agent-rl evaluate WHAT`: the policy or player, the config, the run's folder.

Light to import (no torch, Ray or vLLM): a typo is answered before anything starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from agent_rl.config import (
    Config,
    ConfigError,
    explain,
    load_config,
    load_run_config,
    read_options,
)
from agent_rl.config.keys import EXPORTED_CONFIG
from agent_rl.config.loading import TRUST_ENV
from agent_rl.config.trust import came_with_model, refuse_foreign_code
from agent_rl.policy.folder import is_adapter
from agent_rl.runs.layout import (
    CHECKPOINT_MODEL,
    CONFIG_FILE,
    STAGES,
    RunLayout,
    checkpoint_step_in,
    run_around,
)
from envs.nearest import did_you_mean
from rollouts.players import PLAYERS, PlayerName, player_named

_LEVELS = 4
"""Folders searched for a config, upwards: from `train/checkpoints/step-N/model` to the run."""
_DEFAULTS = ("run_folder=runs/baselines", "episode.max_turns=50")
"""Settings for a player without a config; 50 turns are what published ALFWorld results allow."""
_DEFAULT_DATA = "env.options.data=$ALFWORLD_DATA"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The policy or player to evaluate, and the config of the evaluation."""

    config: Config
    """Its `run_folder` gets the results."""
    model: str | None = None
    """A policy's path or hub name; None for a player, and for the newest policy of the run."""
    player: PlayerName | None = None
    """A player that needs no model, in place of a policy."""


def find_target(
    what: str,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    config_file: Path | None = None,
    trust_env: bool = False,
) -> Target:
    """Resolve a name or path to the policy or player that it stands for, and the config.

    Args:
        what: a config, a run's folder, a checkpoint or model, a hub name, `expert` or `random`.
        overrides: settings of the config.
        model: another policy or player; only if `what` is a config.
        config_file: the config to use; by default that of the model's run, which is searched for
            beside the model and above it. The results go to the model's run in either case.
        trust_env: whether a config that is found, or came with a model, may name code.

    Raises:
        ConfigError: `what` is none of these, or there is no config for it, or one is wrong.
    """
    if Path(what).suffix in (".yaml", ".yml"):
        if config_file:
            raise ConfigError(
                f"--config {config_file}: {what} is a config already; name one of the two"
            )
        config = load_config(what, overrides, trust_env=trust_env)
        player = player_named(model)
        return Target(config=config, model=None if player else model, player=player)
    if model is not None:
        raise ConfigError(
            f"--model {model}: needs a config, and {what} is none; leave one of the two out"
        )
    player = player_named(what)
    if player:
        config = (
            _recorded(config_file, overrides, trust_env=trust_env)
            if config_file
            else _default_config(overrides)
        )
        return Target(config=config, player=player)
    path = Path(what).expanduser()
    if not path.exists():
        if config_file is None:
            raise _unknown(what)
        config = _recorded(config_file, overrides, trust_env=trust_env)
        return Target(config=config, model=what)
    return _target_at(path, what, overrides, config_file, trust_env)


def _recorded(
    file: Path, overrides: Sequence[str], *, trust_env: bool, found: bool = False
) -> Config:
    """The config in a file that a run or an export may have written.

    Args:
        found: whether nobody named the file: then it is as foreign as one that came with a model.
    """
    config = load_run_config(file, overrides)
    if not trust_env and (found or came_with_model(file)):
        refuse_foreign_code(config, file, overrides, option=TRUST_ENV)
    return config


def _target_at(
    path: Path, what: str, overrides: Sequence[str], config_file: Path | None, trust_env: bool
) -> Target:
    """The target at a path that exists; `what` is the path as it was typed."""
    model, run = _policy_at(path), run_around(path)
    file = config_file or _config_around(path)
    if file is None:
        raise ConfigError(
            f"{what}: there is no run's config beside it or above it; name one with --config FILE"
        )
    # Also with --config: the file is often the record of an old run, or that of an export.
    config = _recorded(file, overrides, trust_env=trust_env, found=config_file is None)
    # The run may have been moved or copied since its config was written.
    if run is not None and not any(override.startswith("run_folder=") for override in overrides):
        config = config.model_copy(update={"run_folder": str(_as_typed(run))})
    return Target(config=config, model=model)


def _policy_at(path: Path) -> str | None:
    """The model at a path; None if the path is a run's folder.

    Raises:
        ConfigError: it is neither.
    """
    if path.is_file():
        if path.suffix != ".gguf":
            raise ConfigError(f"{path}: is no config (.yaml) and no model (.gguf, or a folder)")
        return str(path)
    for folder in (path, path / CHECKPOINT_MODEL):
        if (folder / "config.json").is_file() or is_adapter(folder):
            return str(folder)
    # A checkpoint that lost its model does not stand for the run's newest policy.
    if run_around(path) and checkpoint_step_in(str(path.absolute())) is None:
        return None
    raise ConfigError(
        f"{path}: holds no model (config.json) and is no run's folder ({', '.join(STAGES)})"
    )


def _config_around(path: Path) -> Path | None:
    """The nearest config of a run or an export, in the folder `path` or above it."""
    for folder in [path.absolute(), *path.absolute().parents][:_LEVELS]:
        run = RunLayout(folder)
        for file in (
            folder / CONFIG_FILE,
            folder / EXPORTED_CONFIG,
            run.train.config_file,
            run.sft.config_file,
        ):
            if file.is_file():
                return _as_typed(file)
    return None


def _unknown(what: str) -> ConfigError:
    """The error for a name that is no path, no player, and no hub name with a config."""
    question = did_you_mean(what, PLAYERS)
    hint = f"; {question}" if question else ""
    return ConfigError(
        f"{what}: no such file or folder, and not one of {', '.join(PLAYERS)}{hint}; if it is a "
        "model of the hub, name the config to evaluate it with: --config FILE"
    )


def _default_config(overrides: Sequence[str]) -> Config:
    """The config for a player without one: the games in $ALFWORLD_DATA, unless `env.id` is set."""
    elsewhere = any(override.startswith("env.id=") for override in overrides)
    defaults = _DEFAULTS if elsewhere else (*_DEFAULTS, _DEFAULT_DATA)
    try:
        return Config.model_validate(read_options([*defaults, *overrides]))
    except ValidationError as error:
        raise ConfigError(explain(Path("the settings"), error)) from error


def _as_typed(path: Path) -> Path:
    """The path as people write it: relative to the working directory if it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
