"""From an environment's id to the environment."""

import difflib
import importlib
import inspect
from typing import Any

from envs.text_env import TextEnv

BUILT_IN = {"alfworld": "envs.alfworld_env:AlfworldEnv"}


def make_env(env_id: str, **options: Any) -> TextEnv:
    """Build the environment `env_id`: a built-in name, or `package.module:Class` for your own.

    Raises:
        ValueError: the id or one of the options is not known; the message says what is.
    """
    module_name, _, class_name = BUILT_IN.get(env_id, env_id).partition(":")
    if not class_name:
        raise ValueError(
            f"env.id: {env_id!r} is neither built in ({', '.join(BUILT_IN)}) nor of the form package.module:Class"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"env.id: cannot import {module_name!r} for {env_id!r}: {error}") from error
    env_class = getattr(module, class_name, None)
    if env_class is None:
        raise ValueError(f"env.id: module {module_name!r} has no class {class_name!r}")
    parameters = inspect.signature(env_class).parameters.values()
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(known) == len(parameters):
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
                raise ValueError(f"env.options: {env_id} has no option {name!r}; {hint}")
    env: TextEnv = env_class(**options)
    return env
