"""What a process of a sweep does: the shared start, or one run, each with its final evaluation.

    python -m agent_rl.commands.sweep.process start|run new|resume|evaluate CONFIG --owner PID

It ends with the process PID, however that one ends.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from agent_rl.commands.stages import stages
from agent_rl.commands.sweep.plan import START, report_in
from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.evaluation.playing import Outputs, run_evaluation
from agent_rl.policy.fingerprint import fingerprint
from agent_rl.training.session import Session
from rollouts.processes.lifeline import end_with


def make_start(config: Config) -> None:
    """The policy that all runs start from: made, warm-started, evaluated."""
    stages.init(config)
    stages.sft(config)
    evaluate(config)


def evaluate(config: Config) -> None:
    """The final evaluation of the newest policy there; what an earlier attempt has played is not
    played again.
    """
    stages.evaluate(config, json=report_in(Path(config.run_folder)))


def train(config: Config, *, resume: bool) -> None:
    """`stages.train`, and the final evaluation by the same engine: to start another takes half a
    minute and more.
    """
    if not resume:
        refuse_another_start(config)
    stages.train(config, resume=resume, then=evaluate_in)


def refuse_another_start(config: Config) -> None:
    """Raise where the policy that a run is to start from is not the one that was evaluated as the
    start.
    """
    report = report_in(Path(config.run_folder).parent / START)
    evaluated = json.loads(report.read_text())["setting"]["weights"]
    present = fingerprint(config.model.path).weights
    if present != evaluated:
        raise ConfigError(
            f"model {config.model.path}: its weights ({present}) are not those that were evaluated as the start "
            f"({evaluated}, {report}), which other runs began with; put them back, or name another run_folder=..."
        )


def evaluate_in(session: Session, source: str) -> None:
    """`evaluate` of the policy that a session serves, whose files are at `source`."""
    config = session.config
    subject, tasks = stages.under_evaluation(config, source)
    report = report_in(Path(config.run_folder))
    run_evaluation(config, subject, tasks, session.play_once, outputs=Outputs(json=report))


def main() -> None:
    """A config that cannot be run is one line; of all else, the log is to have the whole traceback."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("start", "run"))
    parser.add_argument("stage", choices=("new", "resume", "evaluate"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--owner", type=int, required=True)
    asked = parser.parse_args()
    end_with(asked.owner)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell may have started the sweep with it ignored
    try:
        config = load_run_config(asked.config)
        if asked.stage == "evaluate":
            evaluate(config)
        elif asked.kind == "start":
            make_start(config)
        else:
            train(config, resume=asked.stage == "resume")
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
