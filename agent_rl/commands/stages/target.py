"""What `agent-rl evaluate WHAT` means: who is evaluated, under which config, in which run's folder.

Light to import (no torch, Ray or vLLM): a typo is answered before anything starts.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from agent_rl.config import Config, ConfigError, explain, load_config, load_run_config, read_options
from rollouts.players import PLAYERS, PlayerName, player_named

_STAGES = ("train", "sft", "init")
_CONFIGS = ("config.yaml", "agent_rl.yaml", "train/config.yaml", "sft/config.yaml")
_IN_RUN = re.compile(r"(?P<run>.+)/(init|sft(/model)?|train(/checkpoints(/[^/]+(/model)?)?)?)")
_LEVELS = 4
"""How many folders are searched for a config, upwards: from a checkpoint's model to the run's
folder.
"""
_DEFAULTS = ("run_folder=runs/baselines", "episode.max_turns=50")
_DEFAULT_DATA = "env.options.data=$ALFWORLD_DATA"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A `player`; or else the policy at `model`, a path or hub name, or with None the newest of
    `config.run_folder`.
    """

    config: Config
    model: str | None = None
    player: PlayerName | None = None


def find_target(
    what: str,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    config_file: Path | None = None,
) -> Target:
    """Find out what `what` names: a config (then `model` may name another policy), a run's folder,
    a checkpoint or model, a hub name, `expert` or `random`.

    A model's config is the one of its run, found beside it or above it, or `config_file`. Its
    results go to its run.

    Raises:
        ConfigError: it is nothing of that, or there is no config for it, or one is wrong.
    """
    if Path(what).suffix in (".yaml", ".yml"):
        if config_file:
            raise ConfigError(
                f"--config {config_file}: {what} is a config already; name one of the two"
            )
        config, player = load_config(what, [*overrides]), player_named(model)
        return Target(config=config, model=None if player else model, player=player)
    if model is not None:
        raise ConfigError(
            f"--model {model}: goes with a config, and {what} is none; leave one of the two out"
        )
    if player := player_named(what):
        config = (
            load_config(config_file, [*overrides]) if config_file else _default_config(overrides)
        )
        return Target(config=config, player=player)
    path = Path(what).expanduser()
    if not path.exists():
        return Target(config=load_run_config(_needed(config_file, what), overrides), model=what)
    source, run = _policy_at(path), _run_around(path)
    found = config_file or _config_around(path)
    # Also with --config: the file is often the record of an old run, or that of an export.
    config = load_run_config(_needed(found, what), overrides)
    if run is not None and not any(override.startswith("run_folder=") for override in overrides):
        config = config.model_copy(update={"run_folder": str(_shown(run))})
    return Target(config=config, model=source)


def _policy_at(path: Path) -> str | None:
    """The model at a path; None where it is a run's folder."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise ConfigError(f"{path}: is no config (.yaml) and no model (.gguf, or a folder)")
        return str(path)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return str(folder)
    if _run_around(path):
        return None
    raise ConfigError(
        f"{path}: holds no model (config.json) and is no run's folder ({', '.join(_STAGES)})"
    )


def _run_around(path: Path) -> Path | None:
    """The run's folder that a path is, or in which it is where a stage puts its policy."""
    path = path.absolute()
    if inside := _IN_RUN.fullmatch(str(path)):
        return Path(inside["run"])
    return path if any((path / stage).is_dir() for stage in _STAGES) else None


def _config_around(path: Path) -> Path | None:
    near = [path.absolute(), *path.absolute().parents][:_LEVELS]
    files = (folder / name for folder in near for name in _CONFIGS)
    return next((_shown(file) for file in files if file.is_file()), None)


def _needed(config_file: Path | None, what: str) -> Path:
    if config_file is not None:
        return config_file
    if Path(what).expanduser().exists():
        raise ConfigError(
            f"{what}: there is no run's config beside it or above it; name one with --config FILE"
        )
    near = difflib.get_close_matches(what, PLAYERS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"{what}: no such file or folder, and not one of {', '.join(PLAYERS)}{hint}; where it is a model of the hub, "
        "name the config to evaluate it with: --config FILE"
    )


def _default_config(overrides: Sequence[str]) -> Config:
    """The defaults, on the games in $ALFWORLD_DATA unless another environment is named; as many
    turns as the field.
    """
    elsewhere = any(override.startswith("env.id=") for override in overrides)
    defaults = _DEFAULTS if elsewhere else (*_DEFAULTS, _DEFAULT_DATA)
    try:
        return Config.model_validate(read_options([*defaults, *overrides]))
    except ValidationError as error:
        raise ConfigError(explain(Path("the settings"), error)) from error


def _shown(path: Path) -> Path:
    """As people write it: from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
