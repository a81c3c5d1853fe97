"""The grid of a sweep: axes whose points multiply with the variants. Light to import.

    sweep:
      variants: {gmpo: {learner.objective: gmpo}, grpo: {learner.objective: grpo}}
      grid:
        age: {young: {learner.optimizer_steps: 4}, old: {learner.optimizer_steps: 16}}
        train.look_ahead: [0, 2]

are eight variants, from `gmpo-young-look_ahead-0` to `grpo-old-look_ahead-2`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from agent_rl.config import ConfigError, SweepSettings

Axes = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""The keys of each point, by the name of its axis and its own."""


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """A variant of the config at one point of each axis."""

    arm: str
    """The variant of the config."""
    points: Mapping[str, str]
    """The name of its point, by axis; empty without a grid."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The dotted keys that both set."""

    @property
    def name(self) -> str:
        """The name of the variant that it is in the sweep."""
        return "-".join([self.arm, *self.points.values()])


def axes_of(settings: SweepSettings) -> Axes:
    """The axes of a grid, in the config's order.

    A point of a list has the last part of its key and its value as a name.

    Raises:
        ConfigError: a value cannot be part of a folder's name, or two points have one name.
    """
    axes: dict[str, dict[str, Mapping[str, Any]]] = {}
    for axis, points in settings.grid.items():
        if isinstance(points, dict):
            axes[axis] = dict(points)
            continue
        axes[axis] = {}
        for value in points:
            name = f"{axis.rpartition('.')[2]}-{_text(axis, value)}"
            if name in axes[axis]:
                raise ConfigError(f"sweep.grid.{axis}: {value!r} is there twice; remove one")
            axes[axis][name] = {axis: value}
    return axes


def cells_of(settings: SweepSettings) -> list[GridCell]:
    """All variants of a sweep: at each point of the grid those of the config, in its order.

    Raises:
        ConfigError: two parts of a cell set one key, or two cells have one name.
    """
    axes = axes_of(settings)
    cells: dict[str, GridCell] = {}
    for names in product(*axes.values()):
        points = dict(zip(axes, names, strict=True))
        for arm, values in settings.variants.items():
            parts: dict[str, Mapping[str, Any]] = {f"variants.{arm}": values}
            for axis, name in points.items():
                parts[f"grid.{axis}"] = axes[axis][name]
            cell = GridCell(arm=arm, points=points, values=_joined(parts))
            if cell.name in cells:
                raise ConfigError(
                    f"sweep.grid: two runs would have the folder {cell.name}-s..., one of "
                    f"{_described(cells[cell.name])} and one of {_described(cell)}; rename a point"
                )
            cells[cell.name] = cell
    return list(cells.values())


def _joined(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The values of all parts; a key that two of them set is an error."""
    joined: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for part, values in parts.items():
        for key, value in values.items():
            if key in owners:
                raise ConfigError(
                    f"sweep: {key}: both sweep.{owners[key]} and sweep.{part} set it, and one "
                    "would have no effect; remove it from one of them"
                )
            joined[key], owners[key] = value, part
    return joined


def _text(axis: str, value: Any) -> str:
    """A value as a part of a folder's name."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    is_plain = isinstance(value, str | int | float) and re.fullmatch(r"[\w.+-]+", text)
    if not is_plain:
        raise ConfigError(
            f"sweep.grid.{axis}: {value!r} can be no part of a folder's name; name the points "
            f"instead, as in {axis.rpartition('.')[2]}: {{one: {{{axis}: ...}}}}"
        )
    return text


def _described(cell: GridCell) -> str:
    return " at ".join([cell.arm, *cell.points.values()])


def chosen_cells(cells: Sequence[GridCell], only: str) -> list[GridCell]:
    """The cells whose names match one of the globs with commas between.

    Raises:
        ConfigError: a glob matches none.
    """
    chosen: dict[str, GridCell] = {}
    for glob in (part.strip() for part in only.split(",")):
        matching = {cell.name: cell for cell in cells if fnmatchcase(cell.name, glob)}
        if not matching:
            raise ConfigError(
                f"--only {glob}: no variant has such a name; the first are: "
                + ", ".join(cell.name for cell in cells[:4])
            )
        chosen |= matching
    return [cell for cell in cells if cell.name in chosen]
