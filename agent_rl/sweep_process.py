"""What a process of a sweep does: the shared start, or one run, each with its final evaluation.

    python -m agent_rl.sweep_process start|run new|resume|evaluate CONFIG --owner PID

It ends with the process PID, however that one ends.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from agent_rl.config import Config, ConfigError, load_config
from rollouts.lifeline import end_with


def make_start(config: Config) -> None:
    """The policy that all runs start from, made and warm-started."""
    from agent_rl import stages

    stages.init(config)
    stages.sft(config)


def train(config: Config, *, resume: bool) -> None:
    from agent_rl import stages

    stages.train(config, resume=resume)


def evaluate(config: Config) -> None:
    """The final evaluation of the newest policy, `evaluations/final.json`, which appears whole or not at all."""
    from agent_rl import stages

    report = Path(config.run_folder) / "evaluations" / "final.json"
    unfinished = report.with_name("final.json.unfinished")
    stages.evaluate(config, json=unfinished)
    os.replace(unfinished, report)


def main() -> None:
    """A config that cannot be run is one line; of all else, the log is to have the whole traceback."""
    # Before torch is imported: threads that spin while another process has the core cost several times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("start", "run"))
    parser.add_argument("stage", choices=("new", "resume", "evaluate"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--owner", type=int, required=True)
    asked = parser.parse_args()
    end_with(asked.owner)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the sweep with it ignored
    try:
        config = load_config(asked.config)
        if asked.stage != "evaluate":
            make_start(config) if asked.kind == "start" else train(config, resume=asked.stage == "resume")
        evaluate(config)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
