"""`agent-rl bench vectors`: our GMPO beside reference vectors, and beside what other
implementations made of them.

A file holds cases: log-probs, mask, advantages, bounds; the formula's loss and gradient (`closed`);
and what verl, TRL and the authors' code gave. Where one of these differs from ours, it is reckoned
again in the ways that it is known to go (`DEPARTURES`). The first way that gives its very numbers
is the reason; if none does, the table says so.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ValidationError, model_validator
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from agent_rl.config import ConfigError
from agent_rl.display import console, say
from agent_rl.objective.policy_loss import AgentTokens, policy_loss, shares
from agent_rl.objective.presets import PRESETS

TOLERANCE = 1e-12
"""Losses and gradients that differ by less, relative to the larger of 1 and the loss, are the same."""
UNKNOWN = "no known reason"


class Numbers(BaseModel):
    """A loss and its gradient with respect to `logp_new`, [B][T]."""

    loss: float
    grad: list[list[float]]


class Case(BaseModel):
    """One case of a file: B rows of T tokens. `official_literal_asym` is the authors' code with two
    bounds, not one.
    """

    name: str
    note: str = ""
    eps_low: float
    eps_high: float
    logp_new: list[list[float]]
    logp_old: list[list[float]]
    mask: list[list[bool]]
    advantage: list[float]
    closed: Numbers
    verl: Numbers | None = None
    trl: Numbers | None = None
    trl_metrics: dict[str, float] | None = None
    official: Numbers | None = None
    official_literal_asym: Numbers | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        shape = [len(row) for row in self.logp_new]
        lengths = {
            "logp_old": [len(row) for row in self.logp_old],
            "mask": [len(row) for row in self.mask],
        }
        for name, numbers in {"closed": self.closed, **self.others}.items():
            lengths[f"{name}.grad"] = [len(row) for row in numbers.grad]
        for name, found in lengths.items():
            if found != shape:
                raise ValueError(f"{name} has not the rows of logp_new")
        counted = {"clip_ratio/low_mean", "clip_ratio/high_mean"}
        if self.trl_metrics and not counted <= self.trl_metrics.keys():
            raise ValueError(f"trl_metrics need {' and '.join(sorted(counted))}")
        if len(self.advantage) != len(shape):
            raise ValueError(f"there are {len(self.advantage)} advantages for {len(shape)} rows")
        if not shape or len(set(shape)) != 1:
            raise ValueError("logp_new needs rows, and all of one length")
        return self

    @property
    def others(self) -> dict[str, Numbers]:
        """What the implementations gave, as far as it is known."""
        given = {
            "verl": self.verl,
            "trl": self.trl,
            "official": self.official or self.official_literal_asym,
        }
        return {name: numbers for name, numbers in given.items() if numbers is not None}


class Vectors(BaseModel):
    """A file of cases."""

    cases: list[Case]


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How an implementation goes another way than the formula, and how that reads in the table.

    `bounds` are what it clips at; `empty_rows` is what a row without agent tokens gives. By
    multiplication and not by selection go the mask (`mask_times`), the advantage's sign
    (`sign_times`) and an advantage of 0 (`zero_times`).
    """

    reason: str
    bounds: Literal["as given", "float32", "lower twice"] = "as given"
    empty_rows: Literal["nothing", "a term", "nan"] = "nothing"
    mask_times: bool = False
    sign_times: bool = False
    zero_times: bool = False


DEPARTURES: dict[str, tuple[Departure, ...]] = {
    "verl": (
        Departure(
            reason="verl: 0 x infinity = NaN at a masked token (it multiplies with the masked advantage's sign)",
            mask_times=True,
            sign_times=True,
        ),
    ),
    "trl": (
        Departure(
            reason="TRL: each row without agent tokens adds -advantage / rows to the loss",
            empty_rows="a term",
        ),
        Departure(
            reason="TRL: 0 x infinity = NaN at a masked token that its advantage's clip lets through",
            mask_times=True,
        ),
        Departure(reason="TRL: advantage 0 x infinite weight = NaN", zero_times=True),
    ),
    "official": (
        Departure(reason="authors' code: its bounds are float32 numbers", bounds="float32"),
        Departure(
            reason="authors' code: a row without agent tokens is 0 / 0 = NaN",
            bounds="float32",
            empty_rows="nan",
        ),
        Departure(
            reason="authors' code: with two bounds, it clips at the lower one on both sides",
            bounds="lower twice",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A loss, its gradient [B, T], and where they are known the fractions of agent tokens clipped
    low and high.
    """

    loss: float
    grad: Tensor
    clip_fractions: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far an implementation's numbers are from ours at most; NaN where one side is NaN and the
    other is not.
    """

    loss: float
    grad: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One case. `clip_fraction` is the difference to TRL's, where it counted."""

    case: str
    closed: Difference
    others: dict[str, Difference]
    clip_fraction: float | None


def bench_vectors(path: Path, *, json_file: Path | None) -> None:
    """Compare all cases of a file and print a table, the reasons for differences, and the largest
    to the formula.

    Raises:
        ConfigError: the file is missing, damaged or no file of cases.
    """
    comparisons = [compared(case) for case in read_vectors(path)]
    console.print(_table(comparisons, f"Our GMPO on {path}: largest absolute difference to"))
    for line in summary(comparisons):
        say(line)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(
            json.dumps([asdict(comparison) for comparison in comparisons], indent=2) + "\n"
        )
        say(f"written to {json_file}")


def read_vectors(path: Path) -> list[Case]:
    """The cases of a file.

    Raises:
        ConfigError: as `bench_vectors`.
    """
    way_out = "; tests/agent_rl/objective/gmpo_vectors.json shows the format"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file of reference vectors{way_out}")
    try:
        cases = Vectors.model_validate(json.loads(path.read_text())).cases
    except ValueError as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = "".join(f"{part}." for part in first["loc"])[:-1] or "the whole"
            raise ConfigError(
                f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}{way_out}"
            ) from error
        raise ConfigError(
            f"{path}: not a whole JSON file ({error}); fetch it again{way_out}"
        ) from error
    if not cases:
        raise ConfigError(f"{path}: holds no case{way_out}")
    return cases


def compared(case: Case) -> Comparison:
    """Our loss and gradient for a case beside all that the file has."""
    mine = ours(case)
    others = {}
    for name, numbers in case.others.items():
        theirs = _outcome(numbers)
        distance = _distance(mine, theirs)
        others[name] = (
            distance
            if _same(mine, theirs)
            else replace(distance, reason=_reason(case, name, theirs))
        )
    counted = (
        [case.trl_metrics[f"clip_ratio/{side}_mean"] for side in ("low", "high")]
        if case.trl_metrics
        else []
    )
    return Comparison(
        case=case.name,
        closed=_distance(mine, _outcome(case.closed)),
        others=others,
        clip_fraction=max(
            (abs(a - b) for a, b in zip(counted, mine.clip_fractions, strict=False)), default=None
        ),
    )


def ours(case: Case) -> Outcome:
    """`policy_loss` with the preset `gmpo` and the case's bounds. As the files do, it divides by
    all rows.
    """
    new, old, mask, advantage = _tensors(case)
    row_N = mask.nonzero()[:, 0]
    tokens = AgentTokens(
        logp_new=new[mask],
        logp_old=old[mask],
        advantage=advantage[row_N],
        share=shares(
            "sequence",
            row_N,
            units=len(mask),
            tokens=max(len(row_N), 1),
            episodes=len(mask),
            length=1,
        ),
        turn=row_N,
        episode=row_N,
        log_weight=torch.zeros_like(old[mask]),
    )
    loss, clipped = policy_loss(
        replace(PRESETS["gmpo"], epsilon=case.eps_low, epsilon_high=case.eps_high), tokens
    )
    (grad,) = torch.autograd.grad(loss, new)
    fractions = tuple(
        float(side.double().mean()) if len(row_N) else 0.0 for side in (clipped.low, clipped.high)
    )
    return Outcome(loss=loss.item(), grad=grad, clip_fractions=fractions)


def reckoned(case: Case, how: Departure) -> Outcome:
    """The formula on whole rows, in another's way."""
    new, old, mask, advantage = _tensors(case)
    low, high = case.eps_low, case.eps_low if how.bounds == "lower twice" else case.eps_high
    if how.bounds != "as given":
        low, high = (float(torch.tensor(bound, dtype=torch.float32)) for bound in (low, high))
    x_BT = new - old
    A_BT = advantage[:, None] * (mask if how.sign_times else 1.0)
    c_BT = torch.where(A_BT > 0, x_BT.clamp(max=high), x_BT.clamp(min=-low))
    if how.sign_times:
        c_BT = torch.where(A_BT == 0, A_BT * x_BT, c_BT)
    if not how.zero_times:
        c_BT = torch.where(advantage[:, None] == 0, 0.0, c_BT)
    c_BT = c_BT * mask if how.mask_times else torch.where(mask, c_BT, 0.0)
    counts_B = mask.sum(1)
    weight_B = (
        c_BT.sum(1) / (counts_B if how.empty_rows == "nan" else counts_B.clamp(min=1))
    ).exp()
    term_B = -advantage * weight_B
    if how.empty_rows == "nothing":
        term_B = torch.where(counts_B > 0, term_B, 0.0)
    loss = term_B.sum() / len(term_B)
    (grad,) = torch.autograd.grad(loss, new)
    return Outcome(loss=loss.item(), grad=grad)


def summary(comparisons: Sequence[Comparison]) -> list[str]:
    """What the table comes to, in a few lines."""
    of_closed = [comparison.closed for comparison in comparisons]
    others = [difference for comparison in comparisons for difference in comparison.others.values()]
    reasons = Counter(difference.reason for difference in others if difference.reason)
    lines = [
        f"{len(comparisons)} cases: at most {_number(_largest([d.loss for d in of_closed]))} from the formula in the "
        f"loss, {_number(_largest([d.grad for d in of_closed]))} in the gradient"
    ]
    if others:
        known = reasons.total() - reasons[UNKNOWN]
        lines.append(
            f"{len(others)} results of others: {len(others) - reasons.total()} the same as ours, {known} different for "
            f"a reason above, {reasons[UNKNOWN]} for none that is known"
        )
    counted = [c.clip_fraction for c in comparisons if c.clip_fraction is not None]
    if counted:
        lines.append(
            f"clip fractions: at most {_number(_largest(counted))} from TRL's, which are in float32"
        )
    return lines


def _reason(case: Case, name: str, theirs: Outcome) -> str:
    for departure in DEPARTURES[name]:
        if _same(reckoned(case, departure), theirs):
            return departure.reason
    return UNKNOWN


def _table(comparisons: Sequence[Comparison], title: str) -> Table:
    reasons = [d.reason for c in comparisons for d in c.others.values() if d.reason]
    known = dict.fromkeys(reason for reason in reasons if reason != UNKNOWN)
    letters = {reason: chr(ord("a") + i) for i, reason in enumerate(known)}
    if UNKNOWN in reasons:
        letters[UNKNOWN] = "?"
    names = [name for name in DEPARTURES if any(name in c.others for c in comparisons)]
    caption = "\n".join(f"{letter}  {reason}" for reason, letter in letters.items())
    table = Table(
        title=escape(title),
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        box=None,
    )
    table.add_column("case", no_wrap=True)
    for name in ("formula,\nloss", "formula,\ngradient"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for comparison in comparisons:
        cells = []
        for name in names:
            found = comparison.others.get(name)
            mark = letters.get(found.reason, " ") if found is not None else ""
            cells.append(
                "" if found is None else f"{_number(_largest([found.loss, found.grad]))} {mark}"
            )
        closed = comparison.closed
        table.add_row(comparison.case, _number(closed.loss), _number(closed.grad), *cells)
    return table


def _tensors(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The new log-probs, which take a gradient, the old ones, the mask and the advantages."""
    new, old = (torch.tensor(rows, dtype=torch.float64) for rows in (case.logp_new, case.logp_old))
    return (
        new.requires_grad_(),
        old,
        torch.tensor(case.mask),
        torch.tensor(case.advantage, dtype=torch.float64),
    )


def _outcome(numbers: Numbers) -> Outcome:
    return Outcome(loss=numbers.loss, grad=torch.tensor(numbers.grad, dtype=torch.float64))


def _distance(one: Outcome, other: Outcome) -> Difference:
    losses = (torch.tensor(outcome.loss, dtype=torch.float64) for outcome in (one, other))
    return Difference(loss=_farthest(*losses), grad=_farthest(one.grad, other.grad))


def _farthest(one: Tensor, other: Tensor) -> float:
    """The largest difference; equal infinities and two NaN differ by 0."""
    same = (one == other) | (one.isnan() & other.isnan())
    return _largest(torch.where(same, 0.0, one - other).abs().flatten().tolist())


def _same(one: Outcome, other: Outcome) -> bool:
    distance = _distance(one, other)
    bound = TOLERANCE * (max(1.0, abs(one.loss)) if math.isfinite(one.loss) else 1.0)
    return _largest([distance.loss, distance.grad]) <= bound


def _largest(values: Sequence[float]) -> float:
    """As `max`, which would pass over a NaN."""
    return math.nan if any(map(math.isnan, values)) else max(values)


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else "0" if value == 0 else f"{value:.0e}"
