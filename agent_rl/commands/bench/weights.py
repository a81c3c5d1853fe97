"""`agent-rl bench weights`: what one outlier does to the weights of an episode's tokens, under
different objectives.

A token's weight is -dL/dlogp over what it would be on-policy: 1 where new and old policy agree, 0
where the token is clipped. The episode has `ORDINARY` tokens whose log-ratios are drawn from N(0,
`SPREAD`), and one, the outlier, whose log-ratio goes from -`REACH` to `REACH`. The weights are
gradients of `policy_loss`: nothing here knows an objective.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from agent_rl.display import console, say
from agent_rl.objective.policy_loss import AgentTokens, policy_loss
from agent_rl.objective.presets import PRESETS, ObjectiveName

OBJECTIVES: tuple[ObjectiveName, ...] = ("gmpo", "grpo", "gspo", "cispo")
ORDINARY, SPREAD, REACH, SEED = 50, 0.1, 3.0, 0
_SHOWN = (-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0)
_SIGNS = (1.0, -1.0)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The weights of two tokens as the outlier moves: its own, and that of the ordinary token
    nearest to ratio 1.
    """

    objective: ObjectiveName
    advantage: float
    log_ratio: list[float]
    outlier: list[float]
    ordinary: list[float]


def bench_weights(*, png_file: Path | None, json_file: Path | None) -> None:
    """Print the weights at a few places of the outlier; draw and write all of them where that is
    asked for.
    """
    for advantage in _SIGNS:
        console.print(_table([curve(name, advantage, _SHOWN) for name in OBJECTIVES], advantage))
    sweep = torch.linspace(-REACH, REACH, 601, dtype=torch.float64).tolist()
    curves = [curve(name, advantage, sweep) for advantage in _SIGNS for name in OBJECTIVES]
    if png_file is not None:
        png_file.parent.mkdir(parents=True, exist_ok=True)
        draw(curves, png_file)
        say(f"drawn in {png_file}")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps([asdict(one) for one in curves]) + "\n")
        say(f"written to {json_file}")


def curve(name: ObjectiveName, advantage: float, sweep: Sequence[float]) -> Curve:
    """An objective's weights, with the outlier's log-ratio at each value of `sweep`."""
    generator = torch.Generator().manual_seed(SEED)
    drawn_N = SPREAD * torch.randn(ORDINARY, generator=generator, dtype=torch.float64)
    outlier_B = torch.tensor(sweep, dtype=torch.float64)
    log_ratio_BN = torch.cat([drawn_N.expand(len(sweep), ORDINARY), outlier_B[:, None]], dim=1)
    weights_BN = token_weights(name, log_ratio_BN, advantage)
    return Curve(
        objective=name,
        advantage=advantage,
        log_ratio=list(sweep),
        outlier=weights_BN[:, -1].tolist(),
        ordinary=weights_BN[:, int(drawn_N.abs().argmin())].tolist(),
    )


def token_weights(name: ObjectiveName, log_ratio_BN: Tensor, advantage: float) -> Tensor:
    """The weights of the tokens of B episodes of N tokens each, [B, N], at these log-ratios."""
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
    # + 0.0: no weight is -0.
    return (-grad_N / (tokens.advantage * tokens.share) + 0.0).reshape(rows, count)


def draw(curves: Sequence[Curve], path: Path) -> None:
    """A picture (PNG) of four panels: the outlier's weight and an ordinary token's, for both signs
    of the advantage.
    """
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
        for column, (which, title) in enumerate(
            {"outlier": "the outlier", "ordinary": "an ordinary token"}.items()
        ):
            panel = panels[row][column]
            for one in curves:
                if one.advantage == advantage:
                    panel.plot(
                        one.log_ratio,
                        getattr(one, which),
                        label=one.objective.upper(),
                        **styles[one.objective],
                    )
            panel.set_title(f"{title}, advantage {sign} 0", fontsize=11)
            panel.grid(color="#dddddd", linewidth=0.6)
            panel.set_xlim(-REACH, REACH)
            panel.set_ylabel("weight")
            if which == "outlier":
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


def _table(curves: Sequence[Curve], advantage: float) -> Table:
    title = f"weights, advantage {'>' if advantage > 0 else '<'} 0: of the outlier, and of one of the {ORDINARY} others"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("outlier's\nlog-ratio", justify="right")
    for which in ("outlier", "other"):
        for one in curves:
            table.add_column(f"{which}\n{one.objective.upper()}", justify="right")
    for i, x in enumerate(curves[0].log_ratio):
        cells = [getattr(one, which)[i] for which in ("outlier", "ordinary") for one in curves]
        table.add_row(f"{x:+.1f}", *(f"{cell:.3f}" for cell in cells))
    return table
