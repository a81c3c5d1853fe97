"""The process of one job of a sweep: the shared start, or a run, each with its final evaluation.

    python -m agent_rl.commands.sweep.process start|run new|resume|evaluate CONFIG --owner PID

It ends when the process PID ends, even if that one is killed.
"""

import argparse
import signal
import sys
from pathlib import Path

from agent_rl.commands.stages.evaluate import evaluate, evaluate_in
from agent_rl.commands.stages.init import init
from agent_rl.commands.stages.sft import sft
from agent_rl.commands.stages.train import train
from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.evaluation.playing import Outputs
from agent_rl.evaluation.report import read_report
from agent_rl.policy.fingerprint import fingerprint
from agent_rl.runs.layout import SWEEP_START, RunLayout
from agent_rl.training.session import Session
from agent_rl.training.stopping import stops_on_signals
from rollouts.processes.lifeline import end_with


def make_start(config: Config) -> None:
    """Make the policy that all runs start from: initialise, warm-start and evaluate it."""
    init(config)
    sft(config, resume=True)
    evaluate_newest(config)


def evaluate_newest(config: Config) -> None:
    """Make the final evaluation of the newest policy; episodes of an earlier attempt are kept."""
    evaluate(config, outputs=Outputs(json=_final_report(config)))


def train_and_evaluate(config: Config, *, resume: bool) -> None:
    """Train, then make the final evaluation with the same engine.

    Another engine would take half a minute or more to start.
    """
    if not resume:
        refuse_another_start(config)
    train(config, resume=resume, then=evaluate_trained)


def refuse_another_start(config: Config) -> None:
    """Raise if a run would start from other weights than those that were evaluated as the start."""
    report = RunLayout(Path(config.run_folder).parent / SWEEP_START).final_report
    evaluated = read_report(report).setting["weights"]
    present = fingerprint(config.model.path, revision=config.model.revision).weights
    if present != evaluated:
        raise ConfigError(
            f"model {config.model.path}: its weights ({present}) are not those that were evaluated "
            f"as the start ({evaluated}, {report}), which other runs began with; put them back, or "
            "name another run_folder=..."
        )


def evaluate_trained(session: Session, source: str) -> None:
    """Make the final evaluation of the policy that a session serves, whose files are `source`."""
    evaluate_in(session, source, outputs=Outputs(json=_final_report(session.config)))


def main() -> None:
    """Do the job. A config that cannot be run is one line; other errors leave their traceback."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("start", "run"))
    parser.add_argument("next_step", choices=("new", "resume", "evaluate"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--owner", type=int, required=True)
    arguments = parser.parse_args()
    end_with(arguments.owner)
    # A shell may have started the sweep with SIGINT ignored, which a child inherits.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        config = load_run_config(arguments.config)
        with stops_on_signals():
            if arguments.next_step == "evaluate":
                evaluate_newest(config)
            elif arguments.kind == "start":
                make_start(config)
            else:
                train_and_evaluate(config, resume=arguments.next_step == "resume")
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _final_report(config: Config) -> Path:
    return RunLayout(Path(config.run_folder)).final_report


if __name__ == "__main__":
    main()
