"""`agent-rl bench weights`: the effect of one outlier on the weights of an episode's tokens.

A token's weight is its gradient -dL/dlogp, divided by the gradient that it would have on-policy. It
is 1 if the new and the old policy agree, and 0 if the token is clipped. The weights are gradients
of `policy_loss`, so this module needs no formula of any objective.

The episode has `ORDINARY` tokens with log-ratios drawn from N(0, `SPREAD`), and one outlier, whose
log-ratio runs from -`REACH` to `REACH`. Shapes: B episodes of N tokens.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from agent_rl.display import console, say
from agent_rl.files import write_json
from agent_rl.objective.policy_loss import AgentTokens, policy_loss
from agent_rl.objective.presets import PRESETS, ObjectiveName

OBJECTIVES: tuple[ObjectiveName, ...] = ("gmpo", "grpo", "gspo", "cispo")
ORDINARY, SPREAD, REACH, SEED = 50, 0.1, 3.0, 0
_FEW = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)
_SIGNS = (1.0, -1.0)
_TOKENS = {"outlier": "the outlier", "ordinary": "an ordinary token"}
"""The fields of a curve that hold weights, with their titles."""


@dataclass(frozen=True, kw_only=True)
class WeightCurve:
    """The weights of two tokens while the outlier's log-ratio changes."""

    objective: ObjectiveName
    """The preset."""
    advantage: float
    """The episode's."""
    log_ratio: list[float]
    """The outlier's log-ratio at each point."""
    outlier: list[float]
    """The outlier's weight at each point."""
    ordinary: list[float]
    """The weight at each point of the ordinary token whose ratio is nearest to 1."""


def bench_weights(*, png_file: Path | None, json_file: Path | None) -> None:
    """Print the weights at a few log-ratios of the outlier.

    Args:
        png_file: the file for a picture of whole curves, or None.
        json_file: the file for the curves' numbers, or None.
    """
    for advantage in _SIGNS:
        at_few = [weight_curve(name, advantage, _FEW) for name in OBJECTIVES]
        console.print(_table(at_few, advantage))
    log_ratios = torch.linspace(-REACH, REACH, 601, dtype=torch.float64).tolist()
    curves = []
    for advantage in _SIGNS:
        curves += [weight_curve(name, advantage, log_ratios) for name in OBJECTIVES]
    if png_file is not None:
        png_file.parent.mkdir(parents=True, exist_ok=True)
        draw(curves, png_file)
        say(f"drawn in {png_file}")
    if json_file is not None:
        write_json(json_file, [asdict(curve) for curve in curves])
        say(f"written to {json_file}")


def weight_curve(name: ObjectiveName, advantage: float, log_ratios: Sequence[float]) -> WeightCurve:
    """Return an objective's weights at each of the outlier's `log_ratios`."""
    generator = torch.Generator().manual_seed(SEED)
    drawn_N = SPREAD * torch.randn(ORDINARY, generator=generator, dtype=torch.float64)
    outlier_B = torch.tensor(log_ratios, dtype=torch.float64)
    ordinary_BN = drawn_N.expand(len(log_ratios), ORDINARY)
    log_ratio_BN = torch.cat([ordinary_BN, outlier_B[:, None]], dim=1)
    weights_BN = token_weights(name, log_ratio_BN, advantage)
    return WeightCurve(
        objective=name,
        advantage=advantage,
        log_ratio=list(log_ratios),
        outlier=weights_BN[:, -1].tolist(),
        ordinary=weights_BN[:, int(drawn_N.abs().argmin())].tolist(),
    )


def token_weights(name: ObjectiveName, log_ratio_BN: Tensor, advantage: float) -> Tensor:
    """Return the weights of the tokens of B episodes of N tokens, [B, N], at these log-ratios."""
    rows, count = log_ratio_BN.shape
    old_N = torch.full((rows * count,), -1.0, dtype=torch.float64)
    new_N = (old_N + log_ratio_BN.flatten()).requires_grad_()
    episode_N = torch.arange(rows).repeat_interleave(count)
    tokens = AgentTokens(
        logp_new=new_N,
        logp_old=old_N,
        advantage=torch.full_like(old_N, advantage),
        share=torch.full_like(old_N, 1.0 / count),
        turn=episode_N,
        episode=episode_N,
        log_weight=torch.zeros_like(old_N),
    )
    loss, _ = policy_loss(PRESETS[name], tokens)
    (grad_N,) = torch.autograd.grad(loss, new_N)
    # Adding 0.0 turns -0.0 into 0.0.
    return (-grad_N / (tokens.advantage * tokens.share) + 0.0).reshape(rows, count)


def draw(curves: Sequence[WeightCurve], path: Path) -> None:
    """Write a PNG of four panels: the outlier and an ordinary token, for both advantage signs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    styles: dict[str, dict[str, Any]] = {
        "gmpo": {"color": "#0b5fa5", "linewidth": 2.6},
        "grpo": {"color": "#c8501e", "linewidth": 2.0},
        "gspo": {"color": "#3a8a3a", "linewidth": 2.0, "linestyle": "--"},
        "cispo": {"color": "#777777", "linewidth": 2.0, "linestyle": ":"},
    }
    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for row, advantage in enumerate(_SIGNS):
        sign = ">" if advantage > 0 else "<"
        of_row = [curve for curve in curves if curve.advantage == advantage]
        for column, (field, title) in enumerate(_TOKENS.items()):
            panel = panels[row][column]
            for curve in of_row:
                label, style = curve.objective.upper(), styles[curve.objective]
                panel.plot(curve.log_ratio, getattr(curve, field), label=label, **style)
            panel.set_title(f"{title}, advantage {sign} 0", fontsize=11)
            panel.grid(color="#dddddd", linewidth=0.6)
            panel.set_xlim(-REACH, REACH)
            panel.set_ylabel("weight")
            if field == "outlier":
                panel.set_yscale("symlog", linthresh=1.0, linscale=1.5)
                panel.set_ylim(-0.08, 30.0)
                panel.set_yticks([0, 0.5, 1, 5, 20], ["0", "0.5", "1", "5", "20"])
            else:
                panel.set_ylim(-0.05, 1.2)
            if row == 1:
                panel.set_xlabel("log-ratio of the outlier: log pi_new - log pi_old")
    panels[0][0].legend(loc="upper left", fontsize=9)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, format="png")


def _table(curves: Sequence[WeightCurve], advantage: float) -> Table:
    sign = ">" if advantage > 0 else "<"
    table = Table(
        title=f"weights, advantage {sign} 0: of the outlier, and of one of the {ORDINARY} others",
        title_justify="left",
        box=None,
    )
    table.add_column("outlier's\nlog-ratio", justify="right")
    for label in ("outlier", "other"):
        for curve in curves:
            table.add_column(f"{label}\n{curve.objective.upper()}", justify="right")
    for i, log_ratio in enumerate(curves[0].log_ratio):
        weights = [curve.outlier[i] for curve in curves] + [curve.ordinary[i] for curve in curves]
        table.add_row(f"{log_ratio:+.1f}", *(f"{weight:.3f}" for weight in weights))
    return table
