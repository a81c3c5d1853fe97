"""Train and evaluate language-model agents in text worlds."""

import os
import sys

import typer

from agent_rl.commands.bench.cli import bench
from agent_rl.commands.compare.cli import compare
from agent_rl.commands.convert.cli import convert
from agent_rl.commands.envs.cli import envs
from agent_rl.commands.explain.cli import explain
from agent_rl.commands.export.cli import export, export_episodes
from agent_rl.commands.games.cli import games
from agent_rl.commands.play.cli import play
from agent_rl.commands.prompt.cli import prompt
from agent_rl.commands.report.cli import report
from agent_rl.commands.stages.cli import demo, evaluate, init, sft, train
from agent_rl.commands.sweep.cli import sweep
from agent_rl.training.stopping import stops_on_signals
from rollouts.processes.openmp import OPENMP

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
for command in (init, sft, train, evaluate, demo, compare, report, sweep, export, play, prompt):
    app.command()(command)
app.command()(export_episodes)
app.command()(explain)
app.add_typer(games, name="games")
app.add_typer(bench, name="bench")
app.add_typer(envs, name="envs")
app.add_typer(convert, name="convert")


def main() -> None:
    """Run the command line.

    An error that a user can mend is one message and exit status 2, without a traceback. See
    `agent_rl.commands.failures`.
    """
    # Before torch is loaded: OpenMP reads these variables once.
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
    try:
        with stops_on_signals():
            app()
    except Exception as error:
        from agent_rl.commands import failures

        sys.exit(failures.report(error))


if __name__ == "__main__":
    main()
