"""Where a run keeps its files: the only place that knows their names. Light to import (no torch).

RUN/
  config.yaml                      a sweep's run: the resolved config
  log.txt  attempts.jsonl          a sweep's run: what its processes printed, how they ended
  init/                            the policy made from scratch (Hugging Face format)
  sft/                             the warm start (SFT)
    config.yaml  metrics.jsonl  tensorboard/  trackers/
    trajectories/expert.jsonl.gz   the expert's episodes
    trajectories/own-1.jsonl.gz    the policy's own episodes of a round
    checkpoint/                    see `agent_rl.training.warm_start_checkpoint`
    model/                         the policy after it
  train/                           reinforcement learning
    config.yaml  metrics.jsonl  tensorboard/
    trackers/wandb.json            how far a tracker was told of the run
    trackers/wandb.log             what the tracker's package printed
    trajectories/step-000001.jsonl.gz
    trajectories/step-000001.tokens.npz   see `agent_rl.runs.token_records`
    checkpoints/step-000010/       see `agent_rl.runs.checkpoint`
    evaluations/step-000010.json   made during training
    not_finite/                    the batch that stopped the run
  evaluations/                     made by `agent-rl evaluate`
    final.json                     the last evaluation of a sweep's run
  episodes/                        made by `agent-rl export-episodes`
  ending.json                      how the training ended, see `agent_rl.runs.ending`
  demo.json                        made by `agent-rl demo`
  report.html                      made by `agent-rl report`
  .lock                            held by the command that trains in the folder
"""

import re
from dataclasses import dataclass
from pathlib import Path

from agent_rl.config.keys import RUN_CONFIG

CONFIG_FILE = RUN_CONFIG
METRICS_FILE = "metrics.jsonl"
LOG_FILE = "log.txt"
ATTEMPTS_FILE = "attempts.jsonl"
FINAL_REPORT = "final.json"
STAGES = ("init", "sft", "train")
SWEEP_START = "start"
"""The run folder of the shared start, in a sweep's folder."""

CHECKPOINT_MODEL = "model"
CHECKPOINT_LEARNER = "learner"
CHECKPOINT_RANDOM = "random.pt"
CHECKPOINT_STATE = "state.json"
LEARNER_STATE = "learner.json"
_CHECKPOINT_FILES = (
    f"{CHECKPOINT_MODEL}/config.json",
    f"{CHECKPOINT_LEARNER}/{LEARNER_STATE}",
    CHECKPOINT_RANDOM,
    CHECKPOINT_STATE,
    CONFIG_FILE,
)
"""A checkpoint with all of these is whole."""

_RECORDS = ".tokens.npz"

# step-000010, step-000010.json, step-000010.jsonl.gz
_STEP = re.compile(r"step-(\d+)(\.json|\.jsonl(\.gz)?)?")
# step-000010-valid_seen-t0.4-1f3a9c2e
_STEP_FIRST = re.compile(r"step-(\d+)-")
# RUN/train/checkpoints/step-000010, with or without /model
_CHECKPOINT_IN_PATH = re.compile(r".*/train/checkpoints/step-(\d+)(/model)?")
# A folder that holds a policy: RUN/init, RUN/sft/model, RUN/train/checkpoints/step-000010/model
_POLICY_FOLDER = re.compile(
    r"(?P<run>.+)/((?P<init>init)|(?P<sft>sft)/model|train/checkpoints/step-(?P<step>\d+)/model)"
)
# The same folders, and those between them and RUN: RUN/sft, RUN/train, RUN/train/checkpoints, ...
_POLICY_IN_RUN = re.compile(
    r"(?P<run>.+)/(init|sft(/model)?|train(/checkpoints(/[^/]+(/model)?)?)?)"
)


@dataclass(frozen=True)
class StageLayout:
    """The folder of one stage that trains: `RUN/sft` or `RUN/train`."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.folder / CONFIG_FILE

    @property
    def metrics_file(self) -> Path:
        """A line of JSON per step."""
        return self.folder / METRICS_FILE

    @property
    def tensorboard(self) -> Path:
        """The same metrics as TensorBoard events."""
        return self.folder / "tensorboard"

    @property
    def trackers(self) -> Path:
        """What trackers leave here: see `agent_rl.runs.trackers`."""
        return self.folder / "trackers"

    def tracker_state(self, name: str) -> Path:
        """How far a tracker was told of the stage."""
        return self.trackers / f"{name}.json"

    def tracker_log(self, name: str) -> Path:
        """What the package of a tracker printed."""
        return self.trackers / f"{name}.log"

    @property
    def trajectories(self) -> Path:
        """Files of episodes, a line each."""
        return self.folder / "trajectories"

    @property
    def expert_episodes(self) -> Path:
        """The expert's episodes of the warm start."""
        return self.trajectories / "expert.jsonl.gz"

    def own_episodes(self, number: int) -> Path:
        """The policy's own episodes of a round of the warm start, counted from 1."""
        return self.trajectories / f"own-{number}.jsonl.gz"

    def step_episodes(self, step: int) -> Path:
        """The episodes of a rollout step, counted from 1."""
        return self.trajectories / f"{step_name(step)}.jsonl.gz"

    def token_records(self, step: int) -> Path:
        """The numbers of the tokens that a rollout step trained (`train.keep_token_records`)."""
        return self.trajectories / f"{step_name(step)}{_RECORDS}"

    def all_token_records(self) -> list[tuple[int, Path]]:
        """The files of such numbers that exist, with their rollout steps."""
        found = []
        for path in self.trajectories.glob(f"step-*{_RECORDS}"):
            step = step_of(Path(path.name.removesuffix(_RECORDS)))
            if step is not None:
                found.append((step, path))
        return found

    def all_step_episodes(self) -> list[tuple[int, Path]]:
        """The files of episodes that exist, with their rollout steps.

        Those of earlier versions are not compressed, and end in `.jsonl`.
        """
        paths = self.trajectories.glob("step-*.jsonl*")
        return [(step, path) for path in paths if (step := step_of(path)) is not None]

    @property
    def model(self) -> Path:
        """The warm start's policy."""
        return self.folder / "model"

    @property
    def warm_start_checkpoint(self) -> Path:
        """The checkpoint of a warm start that is not done yet."""
        return self.folder / "checkpoint"

    @property
    def checkpoints(self) -> Path:
        """A folder per checkpoint."""
        return self.folder / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after a rollout step."""
        return self.checkpoints / step_name(step)

    @property
    def evaluations(self) -> Path:
        """The reports that were made during training."""
        return self.folder / "evaluations"

    def report(self, step: int) -> Path:
        """The report after a rollout step."""
        return self.evaluations / f"{step_name(step)}.json"

    def reports(self) -> dict[int, Path]:
        """The reports that exist, by rollout step, in order."""
        by_step = {}
        for path in self.evaluations.glob("step-*.json"):
            step = step_of(path)
            if step is not None:
                by_step[step] = path
        return dict(sorted(by_step.items()))

    @property
    def not_finite(self) -> Path:
        """The batches whose loss was not finite."""
        return self.folder / "not_finite"

    def whole_checkpoints(self) -> list[Path]:
        """The checkpoints with all their files, in the order of their rollout steps."""
        return [path for path in self.checkpoint_folders() if not missing_files(path)]

    def checkpoint_folders(self) -> list[Path]:
        """The folders with a checkpoint's name, whole or not, in the order of their steps."""
        by_step = {step_of(path): path for path in self.checkpoints.glob("step-*")}
        return [by_step[step] for step in sorted(step for step in by_step if step is not None)]

    def is_begun(self) -> bool:
        """Whether the stage has logged a step or saved a checkpoint."""
        # A stage that failed before its first step leaves an empty file: nothing is lost with it.
        metrics = self.metrics_file
        logged = metrics.is_file() and metrics.stat().st_size > 0
        return logged or bool(self.checkpoint_folders())

    def last_step(self) -> int:
        """The rollout step of the newest whole checkpoint; 0 if there is none."""
        checkpoints = self.whole_checkpoints()
        return (step_of(checkpoints[-1]) or 0) if checkpoints else 0


@dataclass(frozen=True)
class RunLayout:
    """The paths in a run's folder; nothing is read or made."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The resolved config of a sweep's run."""
        return self.folder / CONFIG_FILE

    @property
    def log_file(self) -> Path:
        """The output of all processes of a sweep's run."""
        return self.folder / LOG_FILE

    @property
    def attempts_file(self) -> Path:
        """A line of JSON per process of a sweep's run."""
        return self.folder / ATTEMPTS_FILE

    @property
    def init(self) -> Path:
        """The policy made from scratch."""
        return self.folder / "init"

    @property
    def sft(self) -> StageLayout:
        """The warm start."""
        return StageLayout(self.folder / "sft")

    @property
    def train(self) -> StageLayout:
        """Reinforcement learning."""
        return StageLayout(self.folder / "train")

    @property
    def replayed(self) -> Path:
        """The batch of episodes of `agent-rl bench replay`."""
        return self.folder / "replay.jsonl.gz"

    @property
    def lock_file(self) -> Path:
        """Is locked by the command that trains in the folder."""
        return self.folder / ".lock"

    @property
    def ending_file(self) -> Path:
        """How the training ended."""
        return self.folder / "ending.json"

    @property
    def demo_summary(self) -> Path:
        """The reports and times of `agent-rl demo`."""
        return self.folder / "demo.json"

    @property
    def page(self) -> Path:
        """The page of `agent-rl report`."""
        return self.folder / "report.html"

    @property
    def evaluations(self) -> Path:
        """The reports and episodes of `agent-rl evaluate`."""
        return self.folder / "evaluations"

    @property
    def exported_episodes(self) -> Path:
        """The files of `agent-rl export-episodes`."""
        return self.folder / "episodes"

    @property
    def final_report(self) -> Path:
        """The last evaluation of a sweep's run, or the evaluation of a sweep's start."""
        return self.evaluations / FINAL_REPORT


@dataclass(frozen=True)
class PolicyPlace:
    """The place of a policy in a run."""

    run: RunLayout
    """The run."""
    stage: str
    """The stage that made the policy, one of `STAGES`."""
    step: int | None = None
    """The rollout step of its checkpoint; None if `stage` is not `train`."""


def step_name(step: int) -> str:
    """The name of everything that is of one rollout step: `step-000010`."""
    return f"step-{step:06d}"


def step_of(path: Path) -> int | None:
    """The rollout step in the name of a checkpoint, a report or a file of episodes; else None."""
    matched = _STEP.fullmatch(path.name)
    return int(matched[1]) if matched else None


def step_of_policy_name(name: str) -> int | None:
    """The rollout step in the name of an evaluation, `step-000010-valid_seen-...`; else None."""
    matched = _STEP_FIRST.match(name)
    return int(matched[1]) if matched else None


def missing_files(checkpoint: Path) -> list[str]:
    """The files that a checkpoint lacks; none if it is whole.

    This is the one definition of a whole checkpoint.
    """
    return [name for name in _CHECKPOINT_FILES if not (checkpoint / name).is_file()]


def checkpoint_step_in(path: str) -> int | None:
    """The rollout step in the path of a checkpoint or of its model; None for another path."""
    matched = _CHECKPOINT_IN_PATH.fullmatch(path)
    return int(matched[1]) if matched else None


def policy_place(folder: Path) -> PolicyPlace | None:
    """The place of the policy in `folder`, such as `RUN/sft/model`; None if it is not of a run."""
    matched = _POLICY_FOLDER.fullmatch(str(folder.absolute()))
    if matched is None:
        return None
    run = RunLayout(Path(matched["run"]))
    if matched["step"]:
        return PolicyPlace(run, "train", int(matched["step"]))
    return PolicyPlace(run, "init" if matched["init"] else "sft")


def run_around(path: Path) -> Path | None:
    """The run folder that `path` is, or whose stage keeps its policy at `path`; None for others."""
    path = path.absolute()
    matched = _POLICY_IN_RUN.fullmatch(str(path))
    if matched:
        return Path(matched["run"])
    return path if any((path / stage).is_dir() for stage in STAGES) else None
