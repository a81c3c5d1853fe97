"""The registry: from an environment's id to the environment."""

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

from envs.nearest import did_you_mean, hint
from envs.options import read_arguments
from envs.text_env import ReadObject, TextEnv
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
"""The class (`module:Class`) of each built-in environment, by its id."""
FILES_THAT_RUN = {"textworld": "data"}
"""The option of a built-in environment, by its id, that names files which an interpreter runs."""
GROUP = "agent_rl.environments"
"""The entry-point group in which an installed package announces environments.

An entry is `name = "module:Class"`.
"""

_ONLY_CLASSES = "only subclasses of envs.TextEnv and gymnasium.Env are made"


@dataclass(frozen=True, kw_only=True)
class EnvEntry:
    """An environment that has a name."""

    id: str
    """The id for `make_env` and `env.id`."""
    summary: str
    """One line about it; "" if the source of its class is not found."""
    target: str
    """Its class, as `module:Class`."""
    source: str
    """`built in`, or the name and version of the package that announces it."""


def make_env(env_id: str, **options: Any) -> TextEnv:
    """Build an environment.

    Args:
        env_id: a built-in name, a name that an installed package announces, `package.module:Class`,
            or a gymnasium id (`FrozenLake-v1`, or `module:FrozenLake-v1` to import the module
            first). A gymnasium environment that is not a `TextEnv` is wrapped in a `GymnasiumEnv`.
            Nothing is called but a class of environments, or what gymnasium's registry holds.
        options: the arguments of the class, or of `GymnasiumEnv` for a wrapped environment. A text
            is read as the number or the bool that its argument asks for (`read_as`).

    Raises:
        ValueError: the id or an option is unknown, or an option does not fit.
    """
    maker = _maker(env_id)
    _check_options(env_id, maker, options)
    env = maker(**read_arguments(maker, options, "env.options"))
    if not isinstance(env, TextEnv):
        raise ValueError(
            f"env.id: {env_id!r} is a {type(env).__name__}, which is neither an envs.TextEnv nor a "
            "gymnasium.Env"
        )
    return env


def takes_option(env_id: str, name: str) -> bool:
    """Whether an environment has an option of that name; nothing is built.

    Raises:
        ValueError: the id is unknown.
    """
    return name in inspect.signature(_maker(env_id)).parameters


def object_reader(env_id: str) -> ReadObject:
    """Return `TextEnv.object_named` of an environment; nothing is built.

    Raises:
        ValueError: the id is unknown.
    """
    maker = _maker(env_id)
    env_class = maker.func if isinstance(maker, partial) else maker
    # A gymnasium environment that will be wrapped has texts that nobody reads.
    reader: ReadObject = getattr(env_class, "object_named", TextEnv.object_named)
    return reader


def is_named(env_id: str) -> bool:
    """Whether an environment is built in, or announced by an installed package.

    All others are found by the name of a module or in gymnasium's registry. Nothing is imported.
    """
    return env_id in BUILT_IN or bool(entry_points(group=GROUP, name=env_id))


def list_environments() -> list[EnvEntry]:
    """List the environments that have a name: the built-in ones, then those of installed packages.

    Nothing is imported. The summary is the first paragraph of the class's docstring.
    """
    entries = [
        EnvEntry(id=env_id, summary=_summary(target), target=target, source="built in")
        for env_id, target in BUILT_IN.items()
    ]
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in BUILT_IN:
            continue
        source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "?"
        summary = _summary(point.value)
        entries.append(EnvEntry(id=point.name, summary=summary, target=point.value, source=source))
    return entries


def _maker(env_id: str) -> Callable[..., Any]:
    """Return what makes the environment of an id from its options."""
    target = BUILT_IN.get(env_id) or _announced_target(env_id)
    if target is not None:
        return _checked_maker(env_id, _announced_class(env_id, target))
    if ":" in env_id:
        return _maker_in_module(env_id)
    if env_id in gymnasium.registry:
        return _gymnasium_maker(env_id, env_id)
    raise ValueError(_unknown_id(env_id))


def _maker_in_module(env_id: str) -> Callable[..., Any]:
    """The maker of `module:Class`, or of `module:Name-v0`, which the module registers."""
    module_name, _, name = env_id.partition(":")
    module = _import(env_id, module_name)
    env_class = getattr(module, name, None)
    if env_class is not None:
        return _checked_maker(env_id, env_class)
    if name in gymnasium.registry:
        return _gymnasium_maker(env_id, name)
    classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
    raise ValueError(
        f"env.id: module {module_name!r} has no class {name!r}{hint(name, classes)}; and it "
        "registers no gymnasium environment of that name"
    )


def _announced_target(env_id: str) -> str | None:
    """The class that installed packages announce under a name; None if none does."""
    points: list[EntryPoint] = list(entry_points(group=GROUP, name=env_id))
    targets = {point.value for point in points}
    # The same class may be announced twice, for example by two installations of one package.
    if len(targets) > 1:
        raise ValueError(
            f"env.id: {env_id!r} is announced more than once ({', '.join(sorted(targets))}); write "
            "one of these instead"
        )
    return points[0].value if points else None


def _announced_class(env_id: str, target: str) -> Any:
    module_name, _, class_name = target.partition(":")
    env_class = getattr(_import(env_id, module_name), class_name, None)
    if env_class is None:
        raise ValueError(
            f"env.id: {env_id!r} is announced as {target}, but {module_name!r} has no class "
            f"{class_name!r}"
        )
    return env_class


def _import(env_id: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except (ImportError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"env.id: cannot import {module_name!r} for {env_id!r}: {error}; is its folder on the "
            "module path? (`export PYTHONPATH=.` for a module in this one)"
        ) from error


def _gymnasium_maker(env_id: str, gymnasium_id: str) -> Callable[..., Any]:
    """The maker of an id in gymnasium's registry: a `TextEnv` as it is, anything else wrapped."""
    spec = gymnasium.registry[gymnasium_id]
    try:
        creator = (
            load_env_creator(spec.entry_point)
            if isinstance(spec.entry_point, str)
            else spec.entry_point
        )
    except (ImportError, AttributeError, gymnasium.error.Error) as error:
        raise ValueError(
            f"env.id: {env_id!r} needs a package that is not installed: {error}"
        ) from error
    if inspect.isclass(creator) and issubclass(creator, TextEnv):
        return partial(_checked_maker(env_id, creator), **spec.kwargs)
    make = partial(gymnasium.make, gymnasium_id, disable_env_checker=True)
    # An entry for vector environments only has no creator; gymnasium.make refuses it.
    return partial(GymnasiumEnv, env_id, _reading(creator or make, make))


def _checked_maker(env_id: str, env_class: Any) -> Callable[..., Any]:
    """Check that a class is one of environments; a plain gymnasium one is wrapped.

    The check comes before the first call: an id may name anything in any module, `os:system` too.
    """
    if not inspect.isclass(env_class):
        kind = "function" if callable(env_class) else type(env_class).__name__
        raise ValueError(
            f"env.id: {env_id!r} is a {kind}, not a class; {_ONLY_CLASSES}, so write one around it "
            "(docs/environments.md)"
        )
    if not issubclass(env_class, gymnasium.Env):
        raise ValueError(
            f"env.id: {env_id!r} is no environment; {_ONLY_CLASSES} (docs/environments.md)"
        )
    if not issubclass(env_class, TextEnv):
        return partial(GymnasiumEnv, env_id, _reading(env_class, env_class))
    if inspect.isabstract(env_class):
        missing = ", ".join(sorted(env_class.__abstractmethods__))
        raise ValueError(
            f"env.id: {env_id!r} is a TextEnv that lacks {missing}; write them "
            "(docs/environments.md)"
        )
    maker: Callable[..., Any] = env_class
    return maker


def _reading(signed: Callable[..., Any], make: Callable[..., Any]) -> Callable[..., Any]:
    """`make`, with its arguments read as those that `signed` asks for."""
    return lambda **kwargs: make(**read_arguments(signed, kwargs, "env.options: kwargs"))


def _check_options(env_id: str, maker: Callable[..., Any], options: dict[str, Any]) -> None:
    """Check the names of the options against the signature of `maker`.

    Raises:
        ValueError: a required option is missing, or one is unknown.
    """
    parameters = inspect.signature(maker).parameters.values()
    known: list[str] = []
    missing: list[str] = []
    takes_any = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
            continue
        known.append(parameter.name)
        is_required = (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        )
        if is_required and parameter.name not in options:
            missing.append(parameter.name)
    if missing:
        raise ValueError(f"env.options: {env_id} needs {', '.join(missing)}; add them")
    if takes_any:
        return
    for name in options:
        # Commands add this option when they need an expert: a person may not have written it.
        if name == "expert" and name not in known:
            raise ValueError(
                f"env.options: {env_id} has no expert (no option 'expert'); use random instead, or "
                "leave out the warm start"
            )
        if name not in known:
            raise ValueError(f"env.options: {env_id} has no option {name!r}{hint(name, known)}")


def _unknown_id(env_id: str) -> str:
    """The message about an id that is not known."""
    names = [entry.id for entry in list_environments()]
    question = did_you_mean(env_id, [*names, *gymnasium.registry])
    suggestion = question or f"known: {', '.join(names)}."
    return (
        f"env.id: {env_id!r} is not known; {suggestion} An id is a built-in name, one that an "
        "installed package announces (see `agent-rl envs list`), package.module:Class, or a "
        "gymnasium id such as FrozenLake-v1"
    )


def _summary(target: str) -> str:
    """The first paragraph of a class's docstring; "" if its source is not found.

    It is read from the source, since importing the module may load a lot.
    """
    module_name, _, class_name = target.partition(":")
    path = _source_file(module_name)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            first_paragraph = (ast.get_docstring(node) or "").partition("\n\n")[0]
            return " ".join(first_paragraph.split())
    return ""


def _source_file(module_name: str) -> Path | None:
    """The file of a module, found without importing it; None if there is none."""
    first, *rest = module_name.split(".")
    try:
        # Only for the first part: find_spec("a.b") would import a.
        spec = find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or []:
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None
