"""Success on ALFWorld as others published it, in per cent: what `agent-rl compare --reference` puts
beside ours.

They are no controls for a run here: another policy, other prompts, another amount of training; and
one evaluation each, mostly of 128 of the 140 games of valid_seen, at temperature 0.4. One frozen
checkpoint scored 83.6, 86.7 and 89.1 with three evaluation seeds.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from agent_rl.config import ConfigError
from envs.alfworld.names import FAMILIES


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published row. `seen` and `unseen` are valid_seen and valid_unseen, from the least to the
    greatest number that was published; `families` are of valid_seen, in the order of `FAMILIES`,
    and empty where none were.
    """

    name: str
    model: str
    method: str
    seen: tuple[float, float] | None
    source: str
    unseen: tuple[float, float] | None = None
    families: tuple[float, ...] = ()

    def cell(self, split: str, family: str | None) -> str:
        """What stands in a table: of a family, or of all games where it is None; empty where
        nothing was published.
        """
        if family is not None:
            numbers = (
                dict(zip(FAMILIES, self.families, strict=False)) if split == "valid_seen" else {}
            )
            return f"{numbers[family]:.1f}" if family in numbers else ""
        span = {"valid_seen": self.seen, "valid_unseen": self.unseen}.get(split)
        if span is None:
            return ""
        return f"{span[0]:.1f}" if span[0] == span[1] else f"{span[0]:.1f} - {span[1]:.1f}"


_SMALL, _LARGE = "Qwen2.5-1.5B-Instruct", "Qwen2.5-7B-Instruct"
_GIGPO = "arXiv 2505.10978"
_UNSEEN = "; valid_unseen as later papers give it"

PUBLISHED = (
    Published(
        name="grpo-1.5b",
        model=_SMALL,
        method="GRPO",
        families=(85.3, 53.7, 84.5, 78.2, 59.7, 53.5),
        seen=(72.8, 72.8),
        unseen=(70.1, 71.1),
        source=_GIGPO + _UNSEEN,
    ),
    Published(
        name="gmpo-1.5b",
        model=_SMALL,
        method="GMPO",
        families=(93.1, 78.6, 81.0, 88.2, 82.1, 89.5),
        seen=(85.9, 85.9),
        source="the paper with this row is not recorded here: check it before it is cited",
    ),
    Published(
        name="gigpo-1.5b",
        model=_SMALL,
        method="GiGPO",
        families=(94.4, 67.5, 94.8, 94.4, 79.8, 76.4),
        seen=(86.7, 86.7),
        unseen=(83.2, 84.8),
        source=_GIGPO + _UNSEEN,
    ),
    Published(
        name="hgpo-1.5b",
        model=_SMALL,
        method="HGPO",
        seen=(92.8, 92.8),
        unseen=(90.2, 90.2),
        source="arXiv 2602.22817",
    ),
    Published(
        name="g2po-1.5b", model=_SMALL, method="G2PO", seen=(95.0, 95.0), source="arXiv 2606.22995"
    ),
    Published(
        name="3spo-1.5b",
        model=_SMALL,
        method="3SPO",
        seen=(95.4, 95.4),
        unseen=(93.2, 93.2),
        source="arXiv 2606.09961, 400 epochs",
    ),
    Published(
        name="grpo-7b",
        model=_LARGE,
        method="GRPO",
        families=(90.8, 66.1, 89.3, 74.7, 72.5, 64.7),
        seen=(77.6, 77.6),
        unseen=(75.4, 77.3),
        source=_GIGPO + _UNSEEN,
    ),
    Published(
        name="gigpo-7b",
        model=_LARGE,
        method="GiGPO",
        families=(97.7, 82.7, 98.8, 83.7, 89.3, 79.2),
        seen=(90.8, 90.8),
        unseen=(90.2, 90.2),
        source=_GIGPO + _UNSEEN,
    ),
    Published(
        name="hgpo-7b",
        model=_LARGE,
        method="HGPO",
        seen=(95.4, 95.4),
        unseen=(92.1, 92.1),
        source="arXiv 2602.22817",
    ),
    Published(
        name="3spo-7b",
        model=_LARGE,
        method="3SPO",
        seen=(96.8, 96.8),
        unseen=(95.9, 95.9),
        source="arXiv 2606.09961",
    ),
)


def published(names: Sequence[str], env: str) -> list[Published]:
    """The rows of these names.

    Raises:
        ConfigError: there is no such row, or the runs are not of ALFWorld.
    """
    if names and env != "alfworld":
        raise ConfigError(
            f"--reference {names[0]}: the published rows are ALFWorld's, and these runs are of {env}"
        )
    known = {row.name: row for row in PUBLISHED}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"--reference {name}: no such row; {hint}")
    return [known[name] for name in names]
