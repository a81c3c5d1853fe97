"""Which configs may name code. Light to import.

An environment is code, and `env.id` may name any module. A person trusts what they write or type.
A config that came with a model, or that was found beside one, is trusted with environments that
have a name: those that are built in or that an installed package announces.
"""

from collections.abc import Sequence
from pathlib import Path

from agent_rl.config.config import Config
from agent_rl.config.errors import ConfigError
from agent_rl.config.keys import EXPORTED_CONFIG
from envs.registry import FILES_THAT_RUN, is_named
from rollouts.settings import HISTORIES


def came_with_model(path: Path) -> bool:
    """Whether a config is that of an export, or lies in a model's folder."""
    beside = (path.parent / name for name in ("config.json", "adapter_config.json"))
    return path.name == EXPORTED_CONFIG or any(file.is_file() for file in beside)


def refuse_foreign_code(
    config: Config, path: Path, overrides: Sequence[str] = (), *, option: str = ""
) -> None:
    """Check that nothing runs which only the config at `path` names. Nothing is imported.

    Args:
        config: the config with its overrides.
        path: its file, for the message.
        overrides: the settings that a person typed.
        option: the command's option to trust the config, for the message; "" if it has none.

    Raises:
        ConfigError: its environment, a file that the environment runs, or the function of its
            history is named there alone.
    """
    typed = {override.partition("=")[0] for override in overrides}
    env = config.env
    if not is_named(env.id) and not typed & {"env", "env.id"}:
        raise _foreign(
            path,
            "env.id",
            env.id,
            "it is code, and neither built in nor announced by an installed package",
            option,
        )
    key = FILES_THAT_RUN.get(env.id)
    named = env.options.get(key, "generated") if key else "generated"
    if named != "generated" and not typed & {"env", "env.options", f"env.options.{key}"}:
        raise _foreign(path, f"env.options.{key}", named, "an interpreter runs such files", option)
    history = config.prompt.history
    if history not in HISTORIES and not typed & {"prompt", "prompt.history"}:
        raise _foreign(path, "prompt.history", history, "it is code", option)


def _foreign(path: Path, key: str, value: object, why: str, option: str) -> ConfigError:
    ways_out = f"{option}, or {key}={value}" if option else f"{key}={value}"
    return ConfigError(
        f"{path}: {key}: {value!r}: {why}; a config that comes with a model may not name it. If "
        f"you trust it, add {ways_out}"
    )
