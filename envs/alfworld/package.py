"""What the alfworld package ships about its 120 rooms: furniture, things, and what goes where."""

import importlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

SCENES = (*range(1, 31), *range(201, 231), *range(301, 331), *range(401, 431))
"""Floor plans: kitchens, living rooms, bedrooms, bathrooms."""
UNSEEN_SCENES = (10, 219, 308, 424)
"""The floor plans of ALFWorld's own valid_unseen split, kept out of everything that trains."""


@dataclass(frozen=True, kw_only=True)
class Receptacle:
    """A piece of furniture: `id` and `location` as they stand in a problem, `position` in metres
    (x, y, z).
    """

    id: str
    type: str
    location: str
    position: tuple[float, float, float]
    openable: bool


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A floor plan: its receptacles, and the types of the things that belong into such a room."""

    scene: int
    receptacles: tuple[Receptacle, ...]
    object_types: tuple[str, ...]

    def keep(self, object_types: Sequence[str], receptacle_types: Sequence[str]) -> "Layout":
        """This floor plan with only these types; where there are none to keep, with all."""
        return replace(
            self,
            receptacles=tuple(
                r for r in self.receptacles if r.type in receptacle_types or not receptacle_types
            ),
            object_types=tuple(
                kind for kind in self.object_types if kind in object_types or not object_types
            ),
        )


def mangle(name: str) -> str:
    """`Mug|+00.95|-01.30` as a PDDL name."""
    for character, word in (("|", "_bar_"), ("-", "_minus_"), ("+", "_plus_"), (".", "_dot_")):
        name = name.replace(character, word)
    return name


@cache
def package_folder() -> Path:
    """The folder of the alfworld package.

    The package itself is not imported: its import makes a folder in the home directory and sets
    `ALFWORLD_DATA`.
    """
    spec = importlib.util.find_spec("alfworld")
    if spec is None or spec.origin is None:
        raise ValueError("the package alfworld is not installed; run `pip install alfworld==0.4.2`")
    return Path(spec.origin).parent


@cache
def constants() -> ModuleType:
    """`alfworld.gen.constants`: which receptacle can hold what (`VAL_RECEPTACLE_OBJECTS`), and the
    like.
    """
    return _load("constants")


@cache
def goals() -> ModuleType:
    """`alfworld.gen.goal_library`: goal and task sentences per family (`gdict`)."""
    return _load("goal_library")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"_alfworld_{name}", package_folder() / "gen" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def load_layout(scene: int) -> Layout:
    """Read one floor plan; its parts in a stable order."""
    folder = package_folder() / "gen" / "layouts"
    poses = json.loads((folder / f"FloorPlan{scene}-openable.json").read_text())
    object_types = json.loads((folder / f"FloorPlan{scene}-objects.json").read_text())
    receptacles = (_receptacle(name, poses[name]) for name in sorted(poses))
    return Layout(
        scene=scene,
        receptacles=tuple(receptacle for receptacle in receptacles if receptacle is not None),
        object_types=tuple(sorted(set(object_types))),
    )


def _receptacle(name: str, pose: list[float]) -> Receptacle | None:
    """`Type|x|y|z`, or `Sink|x|y|z|SinkBasin`; None where the game could not name it or nothing
    fits into it.
    """
    first, x, y, z, *rest = name.split("|")
    kind = rest[0] if rest else first
    if (rest and kind != f"{first}Basin") or kind not in constants().VAL_RECEPTACLE_OBJECTS:
        return None
    stand_x, stand_z, rotation, horizon = pose
    location = (
        f"loc|{round(stand_x * 4)}|{round(stand_z * 4)}|{round(rotation / 90)}|{round(horizon)}"
    )
    return Receptacle(
        id=mangle(name),
        type=kind,
        location=mangle(location),
        position=(float(x), float(y), float(z)),
        openable=kind in constants().OPENABLE_CLASS_SET,
    )


def import_alfworld(module: str) -> ModuleType:
    """Import a module of alfworld, which would set `ALFWORLD_DATA` and make that folder: show it
    one that exists.
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
