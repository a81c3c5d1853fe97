"""Train and evaluate language-model agents in text worlds."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.bench.cli import bench
from agent_rl.commands.compare.cli import compare
from agent_rl.commands.envs import envs
from agent_rl.commands.games.cli import games
from agent_rl.commands.stages.target import find_target
from agent_rl.commands.sweep.cli import sweep
from agent_rl.config import ConfigError, load_config
from rollouts.processes.openmp import OPENMP

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
app.add_typer(games, name="games")
app.add_typer(bench, name="bench")
app.add_typer(envs, name="envs")
app.command()(compare)
app.command()(sweep)

ConfigPath = Annotated[Path, typer.Argument(help="YAML config, for example configs/demo.yaml")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value, for example train.num_generations=8")
]


@app.command()
def init(config: ConfigPath, overrides: Overrides = None) -> None:
    """Make a small policy from scratch: a tokenizer trained on the environment's text, and random
    weights.
    """
    checked = load_config(config, overrides)
    from agent_rl.commands.stages import stages

    stages.init(checked)


@app.command()
def sft(config: ConfigPath, overrides: Overrides = None) -> None:
    """Warm-start a policy on the environment's expert."""
    checked = load_config(config, overrides)
    from agent_rl.commands.stages import stages

    stages.sft(checked)


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on from the last whole checkpoint")
    ] = False,
) -> None:
    """Train the policy by reinforcement (GMPO or GRPO)."""
    checked = load_config(config, overrides)
    from agent_rl.commands.stages import stages

    stages.train(checked, resume=resume)


@app.command()
def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="a YAML config, run folder, checkpoint, model, hub name, expert or random",
        ),
    ],
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="the config, where WHAT has none with it")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="with a config: a model, expert or random; else the run's newest policy"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="such as valid_seen,valid_unseen; else evaluation.split")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="play each game so often; else evaluation.repeats")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="else evaluation.temperature")] = None,
    again: Annotated[bool, typer.Option("--again", help="play anew what has been played")] = False,
    json: Annotated[Path | None, typer.Option(help="write the report to this file too")] = None,
    markdown: Annotated[Path | None, typer.Option(help="write the tables to this file")] = None,
    latex: Annotated[
        Path | None, typer.Option(help="write a row of a LaTeX table per split to this file")
    ] = None,
) -> None:
    """Success per split and family with 95 % intervals, of a policy, the expert or chance; goes on
    where it stopped.
    """
    told = {"split": split, "repeats": repeats, "temperature": temperature}
    settings = [f"evaluation.{key}={value}" for key, value in told.items() if value is not None]
    target = find_target(what, [*(overrides or []), *settings], model=model, config_file=config)
    if target.player:
        from agent_rl.commands.stages.baseline import evaluate_player

        evaluate_player(
            target.config, target.player, again=again, json=json, markdown=markdown, latex=latex
        )
        return
    from agent_rl.commands.stages import stages

    stages.evaluate(
        target.config, model=target.model, again=again, json=json, markdown=markdown, latex=latex
    )


@app.command()
def export(
    config: ConfigPath,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="folder, hub name or .gguf; else the run folder's newest")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="a new folder; else RUN_FOLDER/export")] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32")] = "bfloat16",
    push_to_hub: Annotated[
        str, typer.Option(help="upload it too: owner/name; a new repository is private")
    ] = "",
) -> None:
    """Write a policy as a Hugging Face folder with a model card: weights, tokenizer, settings,
    results.
    """
    checked = load_config(config, overrides)
    from agent_rl.commands.export.folder import export
    from agent_rl.commands.stages import stages

    export(checked, model or stages.starting_policy(checked), to=to, dtype=dtype, hub=push_to_hub)


@app.command()
def play(
    what: Annotated[str, typer.Argument(metavar="ID", help="an environment, or a YAML config")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="key=value: the environment's options, or the config's keys"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="else the config's evaluation.split, or the first")
    ] = None,
    task: Annotated[str | None, typer.Option(help="a task's id; else one is drawn")] = None,
    policy: Annotated[
        str, typer.Option(help="human, expert, random, or a checkpoint (folder or .gguf)")
    ] = "human",
    turns: Annotated[int | None, typer.Option(min=1, help="at most so many")] = None,
    seed: Annotated[
        int | None, typer.Option(help="of the task that is drawn, and of the policy")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="add the episode to this file; else a new one")
    ] = None,
) -> None:
    """Play one episode at the terminal, or watch a policy play it step by step."""
    from agent_rl.commands.play import episode as playing

    playing.play(
        what,
        settings or [],
        policy=policy,
        split=split,
        task_id=task,
        turns=turns,
        seed=seed,
        save=save,
    )


@app.command()
def demo(config: ConfigPath, overrides: Overrides = None) -> None:
    """Everything in one go: games, a small policy, warm start, GMPO, an evaluation after each."""
    checked = load_config(config, overrides)
    from agent_rl.commands.stages.demo import run_demo

    run_demo(checked)


def main() -> None:
    """Run the command line; an error that a user can mend is one message and exit status 2, not a
    traceback.
    """
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except (ConfigError, ValueError, FloatingPointError) as error:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True).print(
            f"[bold red]error:[/] {escape_markup(str(error))}", highlight=False
        )
        sys.exit(2)


def escape_markup(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
