"""The 120 rooms that the alfworld package ships: their furniture, and the things that fit there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from envs.alfworld.package import constants, mangle, package_folder

SCENES = (*range(1, 31), *range(201, 231), *range(301, 331), *range(401, 431))
"""Floor plans: kitchens, living rooms, bedrooms, bathrooms."""
UNSEEN_SCENES = (10, 219, 308, 424)
"""The floor plans of ALFWorld's own valid_unseen split. Nothing trains on them."""


@dataclass(frozen=True, kw_only=True)
class LayoutReceptacle:
    """A piece of furniture of a floor plan."""

    id: str
    """Its name in a problem: `Fridge_bar__plus_00_dot_95_bar_...`."""
    type: str
    """In the package's spelling: `Fridge`, `SinkBasin`."""
    location: str
    """The name of the place where the player stands to use it."""
    position: tuple[float, float, float]
    """x, y and z in metres."""
    openable: bool


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A floor plan."""

    scene: int
    """Its number, one of `SCENES`."""
    receptacles: tuple[LayoutReceptacle, ...]
    """Its furniture, in a stable order."""
    object_types: tuple[str, ...]
    """The types of the things that belong into such a room, sorted."""

    def keep(self, object_types: Sequence[str], receptacle_types: Sequence[str]) -> "Layout":
        """This floor plan with these types only. An empty list keeps all types."""
        receptacles, kinds = self.receptacles, self.object_types
        if receptacle_types:
            receptacles = tuple(each for each in receptacles if each.type in receptacle_types)
        if object_types:
            kinds = tuple(kind for kind in kinds if kind in object_types)
        return replace(self, receptacles=receptacles, object_types=kinds)


@cache
def load_layout(scene: int) -> Layout:
    """Read one floor plan; its parts are in a stable order."""
    folder = package_folder() / "gen" / "layouts"
    poses = json.loads((folder / f"FloorPlan{scene}-openable.json").read_text())
    object_types = json.loads((folder / f"FloorPlan{scene}-objects.json").read_text())
    receptacles = []
    for name in sorted(poses):
        receptacle = _receptacle(name, poses[name])
        if receptacle is not None:
            receptacles.append(receptacle)
    return Layout(
        scene=scene,
        receptacles=tuple(receptacles),
        object_types=tuple(sorted(set(object_types))),
    )


def _receptacle(name: str, pose: list[float]) -> LayoutReceptacle | None:
    """The piece of furniture called `name`; None if no game can use it.

    Args:
        name: `Fridge|x|y|z`, or with a part of it at the end: `Sink|x|y|z|SinkBasin`.
        pose: the player's x and z in metres, and rotation and horizon in degrees.
    """
    first, x, y, z, *part = name.split("|")
    kind = part[0] if part else first
    # Of the parts of furniture, a game can name basins only: "Sink|...|SinkBasin" is "sinkbasin".
    if part and kind != f"{first}Basin":
        return None
    if kind not in constants().VAL_RECEPTACLE_OBJECTS:
        return None
    stand_x, stand_z, rotation, horizon = pose
    # As in the published games: quarter metres and quarter turns.
    location = (
        f"loc|{round(stand_x * 4)}|{round(stand_z * 4)}|{round(rotation / 90)}|{round(horizon)}"
    )
    return LayoutReceptacle(
        id=mangle(name),
        type=kind,
        location=mangle(location),
        position=(float(x), float(y), float(z)),
        openable=kind in constants().OPENABLE_CLASS_SET,
    )
