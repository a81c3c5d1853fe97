"""Reads a config: YAML and overrides in, one checked `Config` or one plain error out.

Light to import (no torch, Ray, vLLM or alfworld): a typo is found before anything starts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agent_rl.config.config import Config
from agent_rl.config.errors import ConfigError, explain
from agent_rl.config.keys import (
    EXPORTED_CONFIG,
    RENAMED_OPTIONS,
    RUN_CONFIG,
    upgraded,
)
from agent_rl.config.trust import came_with_model, refuse_foreign_code

TRUST_ENV = "--trust-env"
"""The option that lets a config which came with a model name code."""


def load_config(
    path: str | Path, overrides: Sequence[str] | None = None, *, trust_env: bool | None = None
) -> Config:
    """Read a person's YAML file, apply overrides and check the result.

    A file with the name of a recorded config is read as one (`load_run_config`): a run's model card
    and messages tell people to use these files.

    Args:
        path: a YAML mapping with the sections of `Config`.
        overrides: `key.path=value` settings, whose values are YAML.
        trust_env: whether the file may name code even if it came with a model (see
            `agent_rl.config.trust`); None if the command has no option for that.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a key or a value is wrong.
    """
    path = Path(path)
    if path.name in (RUN_CONFIG, EXPORTED_CONFIG):
        config = load_run_config(path, overrides)
    else:
        config = _checked(path, _read_mapping(path), overrides)
    if not trust_env and came_with_model(path):
        option = TRUST_ENV if trust_env is not None else ""
        refuse_foreign_code(config, path, overrides or (), option=option)
    return config


def load_run_config(path: str | Path, overrides: Sequence[str] | None = None) -> Config:
    """Read a config that a run recorded, perhaps under keys that have been renamed since.

    Use it for `config.yaml` in a run folder and `agent_rl.yaml` in an exported policy. The
    overrides come from a person, so an old key among them is an error.

    Raises:
        ConfigError: as in `load_config`.
    """
    return _checked(Path(path), upgraded(_read_mapping(Path(path))), overrides)


def _read_mapping(path: Path) -> dict[str, Any]:
    """The values in a YAML file, not checked yet."""
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.yaml"))
        others = f"; there are: {', '.join(near)}" if near else ""
        raise ConfigError(f"{path}: no such config file{others}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: for 2024-99-99, which is no date, and for bytes that are no text.
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a config is a mapping of sections, this is {type(values).__name__}"
        )
    return values


def _checked(path: Path, values: dict[str, Any], overrides: Sequence[str] | None) -> Config:
    for override in overrides or ():
        _put(values, override, "key.path=value, for example train.num_generations=8")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(path, error)) from error
    # Options are the environment's: pydantic lets all of them through.
    for old, new in RENAMED_OPTIONS.get(config.env.id, {}).items():
        if old in config.env.options:
            raise ConfigError(f"{path}: env.options.{old}: unknown key; it is now {new!r}")
    return config


def read_options(settings: list[str]) -> dict[str, Any]:
    """Return the values of `key=value` settings, for example of an environment's options.

    Values are YAML. A dot in a key leads into a mapping: `games.train=4` is `{games: {train: 4}}`.

    Raises:
        ConfigError: a setting does not have that form.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        _put(values, setting, "key=value, for example size=8 or games.train=4")
    return values


def dump_config(config: Config) -> str:
    """Return the whole config as YAML, which `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _put(values: dict[str, Any], setting: str, form: str) -> None:
    """Set one value in place; `form` says in the error how a setting is written."""
    key, equals, text = setting.partition("=")
    *sections, last = names = key.split(".")
    if not equals or not all(names):
        raise ConfigError(f"{setting!r}: write {form}")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{setting!r}: the value is not valid YAML: {error}") from error
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{setting!r}: {section!r} is a value, not a section")
    values[last] = value
