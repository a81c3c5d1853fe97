"""What the alfworld package ships, read without importing the package itself.

`import alfworld` makes a folder in the home directory and sets `ALFWORLD_DATA`. So the data files
and two modules of constants are loaded by their paths. `import_alfworld` is for the code that needs
more: the stock engine and the package's expert.
"""

import importlib
import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType


@cache
def package_folder() -> Path:
    """The folder of the installed alfworld package.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec("alfworld")
    if spec is None or spec.origin is None:
        raise ValueError("the package alfworld is not installed; run `pip install alfworld==0.4.2`")
    return Path(spec.origin).parent


@cache
def constants() -> ModuleType:
    """The module `alfworld.gen.constants`.

    Used of it: `OBJECTS`, `RECEPTACLES`, `OPENABLE_CLASS_SET`, `MOVABLE_RECEPTACLES_SET`,
    `VAL_RECEPTACLE_OBJECTS` (the things that a type of furniture can hold) and `VAL_ACTION_OBJECTS`
    (the things that have an ability).
    """
    return _load("constants")


@cache
def goals() -> ModuleType:
    """The module `alfworld.gen.goal_library`: `gdict` has each family's goal and task sentences."""
    return _load("goal_library")


def _load(name: str) -> ModuleType:
    path = package_folder() / "gen" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"_alfworld_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def domain_and_grammar() -> tuple[str, str]:
    """The PDDL domain and the text grammar; the grammar has `UNKNOWN GOAL` for the task."""
    folder = package_folder() / "data"
    return (folder / "alfred.pddl").read_text(), (folder / "alfred.twl2").read_text()


def mangle(name: str) -> str:
    """A name of the package as PDDL writes it.

    >>> mangle("Mug|+00.95|-01.30")
    'Mug_bar__plus_00_dot_95_bar__minus_01_dot_30'
    """
    for character, word in (("|", "_bar_"), ("-", "_minus_"), ("+", "_plus_"), (".", "_dot_")):
        name = name.replace(character, word)
    return name


def import_alfworld(module: str) -> ModuleType:
    """Import a module of alfworld and leave the environment variables as they were.

    The import makes the folder that `ALFWORLD_DATA` names, or one in the home directory. During the
    import the variable therefore names a folder that exists.
    """
    value = os.environ.get("ALFWORLD_DATA")
    os.environ["ALFWORLD_DATA"] = str(package_folder())
    try:
        return importlib.import_module(module)
    finally:
        if value is None:
            del os.environ["ALFWORLD_DATA"]
        else:
            os.environ["ALFWORLD_DATA"] = value
