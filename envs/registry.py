"""From an environment's id to the environment."""

import ast
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from envs.nearest import hint, nearest
from envs.text_env import TextEnv
from envs.worlds.gymnasium_env import GymnasiumEnv

BUILT_IN = {
    "alfworld": "envs.alfworld.env:AlfworldEnv",
    "textworld": "envs.worlds.textworld_games:TextWorldGames",
    "textarena": "envs.worlds.textarena_games:TextArenaGame",
    "guess-the-number": "envs.worlds.guess_number:GuessTheNumber",
    "frozen-lake": "envs.worlds.toy_text:FrozenLake",
    "taxi": "envs.worlds.toy_text:Taxi",
    "blackjack": "envs.worlds.toy_text:Blackjack",
}
GROUP = "agent_rl.environments"
"""The entry-point group in which an installed package announces environments: `name =
"module:Class"`.
"""


@dataclass(frozen=True, kw_only=True)
class EnvEntry:
    """An environment that has a name: what it is in one line, its class (`module:Class`) and whose
    it is.
    """

    id: str
    summary: str
    target: str
    source: str


def make_env(env_id: str, **options: Any) -> TextEnv:
    """Build an environment.

    `env_id` is a built-in name, a name that an installed package announces, `package.module:Class`,
    or a gymnasium id (`FrozenLake-v1`, or `module:FrozenLake-v1` to import the module first). A
    gymnasium environment that is no `TextEnv` is wrapped in a `GymnasiumEnv`, whose options it then
    has.

    Raises:
        ValueError: the id or one of the options is not known, or does not fit; the message says
        what is.
    """
    maker = _maker(env_id)
    _check_options(env_id, maker, options)
    env = maker(**options)
    if not isinstance(env, TextEnv):
        raise ValueError(
            f"env.id: {env_id!r} is a {type(env).__name__}, which is no envs.TextEnv and no gymnasium.Env"
        )
    return env


def takes_option(env_id: str, name: str) -> bool:
    """Whether an environment has an option of that name; nothing is built.

    Raises:
        ValueError: the id is not known.
    """
    return name in inspect.signature(_maker(env_id)).parameters


def list_environments() -> list[EnvEntry]:
    """The environments that have a name here: those built in, then those that installed packages
    announce.

    Nothing is imported. The summary is the first paragraph of the class's docstring, or "" if its
    source is not found.
    """
    entries = [
        EnvEntry(id=env_id, summary=_summary(target), target=target, source="built in")
        for env_id, target in BUILT_IN.items()
    ]
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name not in BUILT_IN:
            source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "?"
            entries.append(
                EnvEntry(
                    id=point.name, summary=_summary(point.value), target=point.value, source=source
                )
            )
    return entries


def _maker(env_id: str) -> Callable[..., Any]:
    """What makes the environment when it is called with the options."""
    target = BUILT_IN.get(env_id) or _announced(env_id)
    if target is not None:
        return _checked(env_id, _class_at(env_id, target))
    if ":" in env_id:
        module_name, _, name = env_id.partition(":")
        found = getattr(_import(env_id, module_name), name, None)
        if found is not None:
            return _checked(env_id, found)
        if name not in gymnasium.registry:
            raise ValueError(
                f"env.id: module {module_name!r} has no class {name!r}{hint(name, _classes(module_name))}; and it "
                "registers no gymnasium environment of that name"
            )
        return _from_gymnasium(env_id, name)
    if env_id in gymnasium.registry:
        return _from_gymnasium(env_id, env_id)
    raise ValueError(_unknown(env_id))


def _announced(env_id: str) -> str | None:
    points: list[EntryPoint] = list(entry_points(group=GROUP, name=env_id))
    targets = {point.value for point in points}
    if len(targets) > 1:
        raise ValueError(
            f"env.id: {env_id!r} is announced more than once ({', '.join(sorted(targets))}); write one of these instead"
        )
    return points[0].value if points else None


def _import(env_id: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except (ImportError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"env.id: cannot import {module_name!r} for {env_id!r}: {error}; is its folder on the module path? "
            "(`export PYTHONPATH=.` for a module in this one)"
        ) from error


def _class_at(env_id: str, target: str) -> Any:
    module_name, _, class_name = target.partition(":")
    found = getattr(_import(env_id, module_name), class_name, None)
    if found is None:
        raise ValueError(
            f"env.id: {env_id!r} is announced as {target}, but {module_name!r} has no class {class_name!r}"
        )
    return found


def _from_gymnasium(env_id: str, gymnasium_id: str) -> Callable[..., Any]:
    spec = gymnasium.registry[gymnasium_id]
    try:
        creator = (
            load_env_creator(spec.entry_point)
            if isinstance(spec.entry_point, str)
            else spec.entry_point
        )
    except (ImportError, AttributeError, gymnasium.error.Error) as error:
        raise ValueError(f"env.id: {env_id!r} needs what is not installed: {error}") from error
    if inspect.isclass(creator) and issubclass(creator, TextEnv):
        return partial(_checked(env_id, creator), **spec.kwargs)
    return partial(
        GymnasiumEnv, env_id, partial(gymnasium.make, gymnasium_id, disable_env_checker=True)
    )


def _checked(env_id: str, env_class: Any) -> Callable[..., Any]:
    if (
        inspect.isclass(env_class)
        and issubclass(env_class, gymnasium.Env)
        and not issubclass(env_class, TextEnv)
    ):
        return partial(GymnasiumEnv, env_id, env_class)
    if inspect.isabstract(env_class):
        missing = ", ".join(sorted(env_class.__abstractmethods__))
        raise ValueError(
            f"env.id: {env_id!r} is a TextEnv that lacks {missing}; write them (docs/environments.md)"
        )
    if not callable(env_class):
        raise ValueError(f"env.id: {env_id!r} is {env_class!r}, which is no class")
    maker: Callable[..., Any] = env_class
    return maker


def _check_options(env_id: str, maker: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = inspect.signature(maker).parameters.values()
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    missing = [name for name in needed if name not in options]
    if missing:
        raise ValueError(f"env.options: {env_id} needs {', '.join(missing)}; add them")
    if len(known) < len(parameters):
        return
    for name in options:
        if name == "expert" and name not in known:
            raise ValueError(
                f"env.options: {env_id} has no expert (no option 'expert'); use random instead, or leave out the warm "
                "start"
            )
        if name not in known:
            raise ValueError(f"env.options: {env_id} has no option {name!r}{hint(name, known)}")


def _classes(module_name: str) -> list[str]:
    return [
        name
        for name, value in vars(importlib.import_module(module_name)).items()
        if inspect.isclass(value)
    ]


def _unknown(env_id: str) -> str:
    named = [entry.id for entry in list_environments()]
    near = nearest(env_id, [*named, *gymnasium.registry])
    suggestion = f"did you mean {near!r}?" if near else f"known: {', '.join(named)}."
    return (
        f"env.id: {env_id!r} is not known; {suggestion} An id is a built-in name, one that an installed package announces "
        f"(see `agent-rl envs list`), package.module:Class, or a gymnasium id such as FrozenLake-v1"
    )


def _summary(target: str) -> str:
    """The first paragraph of a class's docstring.

    It is read from the source, since importing the module may load a lot.
    """
    module_name, _, class_name = target.partition(":")
    path = _source(module_name)
    try:
        tree = (
            ast.parse(path.read_text(encoding="utf-8")) if path is not None else ast.Module([], [])
        )
    except (OSError, ValueError, SyntaxError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            first_paragraph = (ast.get_docstring(node) or "").partition("\n\n")[0]
            return " ".join(first_paragraph.split())
    return ""


def _source(module_name: str) -> Path | None:
    first, *rest = module_name.split(".")
    try:
        spec = find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None or not rest:
        return Path(spec.origin) if spec is not None and spec.origin else None
    for folder in spec.submodule_search_locations or []:
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None
