"""The commands `agent-rl init`, `sft`, `train`, `evaluate` and `demo`.

Light to import. A command checks its config before it imports anything heavy: a typo is answered at
once.
"""

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.stages.target import find_target
from agent_rl.config import load_config
from agent_rl.config.loading import TRUST_ENV
from agent_rl.objective.presets import PRESETS
from rollouts.processes.ray_cluster import use_cluster

ConfigPath = Annotated[Path, typer.Argument(help="YAML config, for example configs/demo.yaml")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value, for example train.num_generations=8")
]
TrustEnv = Annotated[
    bool, typer.Option(TRUST_ENV, help="run the environment that a model's own config names")
]

RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="auto|ADDRESS",
        help="use the Ray cluster of this machine or at this address (docs/cluster.md); else Ray "
        "starts for this command alone",
        callback=use_cluster,
    ),
]


def init(config: ConfigPath, overrides: Overrides = None) -> None:
    """Make a small policy from scratch: a tokenizer of the environment's text, random weights."""
    checked = load_config(config, overrides or ())
    from agent_rl.commands.stages import init as stage

    stage.init(checked)


def sft(
    config: ConfigPath,
    overrides: Overrides = None,
    episodes: Annotated[
        str, typer.Option(help="learn from this file of messages or ATIF, not from the expert")
    ] = "",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="continue from its checkpoint; start if none is there"),
    ] = False,
    ray_address: RayAddress = None,
) -> None:
    """Warm-start a policy (SFT) on episodes of the environment's expert, or of a file."""
    file = [f"sft.episodes_file={json_text.dumps(episodes)}"] if episodes else []
    checked = load_config(config, [*(overrides or ()), *file])
    from agent_rl.commands.stages import sft as stage

    stage.sft(checked, resume=resume)


def train(
    config: ConfigPath,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="continue from the newest checkpoint; start if none is there"
        ),
    ] = False,
    ray_address: RayAddress = None,
) -> None:
    checked = load_config(config, overrides or ())
    from agent_rl.commands.stages import train as stage

    stage.train(checked, resume=resume)


# The help names every objective that there is.
train.__doc__ = f"Train the policy with reinforcement learning: {', '.join(PRESETS)}."


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="a YAML config, run folder, checkpoint, model, hub name, expert or random",
        ),
    ],
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="the config, if WHAT has none")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="with a config: a model, expert or random; else the run's newest policy"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="such as valid_seen,valid_unseen; else evaluation.split")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="how often to play each game; else evaluation.repeats")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="else evaluation.temperature")] = None,
    again: Annotated[bool, typer.Option("--again", help="play all games again")] = False,
    trust_env: TrustEnv = False,
    ray_address: RayAddress = None,
    json: Annotated[Path | None, typer.Option(help="write the report to this file too")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the tables to this file")] = None,
    latex: Annotated[
        Path | None, typer.Option(help="write a row of a LaTeX table per split to this file")
    ] = None,
) -> None:
    """Measure success per split and family, with 95 % intervals, of a policy, the expert or chance.

    An interrupted evaluation is resumed by the same command.
    """
    options = {"split": split, "repeats": repeats, "temperature": temperature}
    settings = [*(overrides or ())]
    for key, value in options.items():
        if value is not None:
            settings.append(f"evaluation.{key}={value}")
    target = find_target(what, settings, model=model, config_file=config, trust_env=trust_env)
    from agent_rl.commands.stages import evaluate as stage
    from agent_rl.evaluation.playing import Outputs

    stage.evaluate(
        target.config,
        model=target.model,
        player=target.player,
        again=again,
        outputs=Outputs(json=json, markdown=markdown, latex=latex),
    )


def demo(config: ConfigPath, overrides: Overrides = None, ray_address: RayAddress = None) -> None:
    """Do everything at once: games, a small policy, warm start, training, an evaluation of each."""
    checked = load_config(config, overrides or ())
    from agent_rl.commands.stages.demo import run_demo

    run_demo(checked)
