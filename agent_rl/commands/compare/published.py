"""Published success on ALFWorld: the rows of `published.yaml`, shown by `compare --reference`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from agent_rl.config import ConfigError
from envs.alfworld.names import FAMILIES
from envs.nearest import hint


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published row; success in percent."""

    name: str
    """Its name in `--reference`."""
    model: str
    """The model that was trained."""
    method: str
    """The objective, as the paper calls it."""
    seen: tuple[float, float] | None
    """valid_seen, from the smallest published number to the largest."""
    source: str
    """The paper."""
    unseen: tuple[float, float] | None = None
    """valid_unseen, likewise."""
    families: tuple[float, ...] = ()
    """Families of valid_seen in the order of `FAMILIES`; empty if none were published."""

    @classmethod
    def from_mapping(cls, row: Mapping[str, Any]) -> "Published":
        """The row that an entry of `published.yaml` describes."""
        values = dict(row)
        for key in ("seen", "unseen"):
            values[key] = tuple(values[key]) if key in values else None
        if "families" in values:
            by_name = values["families"]
            values["families"] = tuple(by_name[name] for name in FAMILIES)
        return cls(**values)

    def cell(self, split: str, family: str | None) -> str:
        """The text in a table: success on a family, or on all games if it is None.

        Empty if nothing was published.
        """
        if family is not None:
            if split != "valid_seen" or not self.families or family not in FAMILIES:
                return ""
            return f"{self.families[FAMILIES.index(family)]:.1f}"
        span = {"valid_seen": self.seen, "valid_unseen": self.unseen}.get(split)
        if span is None:
            return ""
        low, high = span
        return f"{low:.1f}" if low == high else f"{low:.1f} - {high:.1f}"


def published(names: Sequence[str], env: str) -> list[Published]:
    """The rows with these names.

    Raises:
        ConfigError: there is no such row, or `env` is not ALFWorld.
    """
    if names and env != "alfworld":
        raise ConfigError(
            f"--reference {names[0]}: the published rows are ALFWorld's, and these runs are of "
            f"{env}"
        )
    known = {row.name: row for row in all_published()}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--reference {name}: no such row{hint(name, known, label='there are')}"
            )
    return [known[name] for name in names]


@cache
def all_published() -> tuple[Published, ...]:
    """All rows, in the file's order."""
    return tuple(Published.from_mapping(row) for row in _table()["rows"])


def caveat() -> str:
    """The sentence under every table of published rows: why they are no controls."""
    return str(_table()["caveat"])


@cache
def _table() -> Any:
    return yaml.safe_load(files(__package__).joinpath("published.yaml").read_text())
