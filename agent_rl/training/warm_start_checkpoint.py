"""The checkpoint of a warm start that is not done yet.

    sft/checkpoint/
      learner/       the learner's state, as in a checkpoint of reinforcement learning
      state.json     how far the warm start is

The episodes are those of `sft/trajectories`. There is one checkpoint, which is replaced as a whole,
and deleted when the policy has been written.
"""

import json
import shutil
from dataclasses import asdict, dataclass

from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.config.keys import EXECUTION_KEYS, changed_values, flat_values
from agent_rl.files import UNFINISHED, restore_replaced, whole_folder
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.runs.layout import CHECKPOINT_LEARNER, CHECKPOINT_STATE, StageLayout

_OTHER_STAGES = ("run_folder", "learner", "train", "evaluation", "sweep", "tracking")
"""Keys and sections that say nothing of a warm start; its rates are in `sft`."""
_FREE = (*EXECUTION_KEYS, "model.path", "sft.checkpoint_every")


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a warm start is."""

    epochs: int = 0
    """Epochs that are done, those of the rounds among them."""
    steps: int = 0
    """Optimizer steps of the next epoch that are done."""
    taken: int = 0
    """Optimizer steps in all."""


def save_warm_start(stage: StageLayout, learner: LearnerProcesses, position: Position) -> None:
    """Replace the stage's checkpoint, whole or not at all."""
    with whole_folder(stage.warm_start_checkpoint, replace=True) as unfinished:
        learner.save(unfinished / CHECKPOINT_LEARNER)
        (unfinished / CHECKPOINT_STATE).write_text(json.dumps(asdict(position)))


def delete_warm_start_checkpoint(stage: StageLayout) -> None:
    """Delete the stage's checkpoint, and what saves left that were killed on the way."""
    checkpoint = stage.warm_start_checkpoint
    for folder in (checkpoint, *stage.folder.glob(f"{checkpoint.name}{UNFINISHED}*")):
        shutil.rmtree(folder, ignore_errors=True)


def load_position(stage: StageLayout, config: Config) -> Position | None:
    """The position of the stage's checkpoint; None if it has none.

    Raises:
        ConfigError: the checkpoint is damaged, the expert's episodes are gone, or the config has
            other settings for the warm start than it was begun with.
    """
    folder = stage.warm_start_checkpoint
    restore_replaced(folder)
    if not folder.is_dir():
        return None
    way_out = f"delete {stage.folder} to begin the warm start again"
    file = folder / CHECKPOINT_STATE
    try:
        position = Position(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{file}: missing or damaged ({error}); {way_out}") from error
    if not stage.expert_episodes.is_file():
        raise ConfigError(f"{stage.expert_episodes}: missing; put it back, or {way_out}")
    recorded = load_run_config(stage.config_file)
    for key, (was, now) in changed_values(flat_values(recorded), flat_values(config)).items():
        if key.split(".")[0] not in _OTHER_STAGES and key not in _FREE:
            raise ConfigError(
                f"{stage.config_file}: {key}: the warm start was begun with {was!r}, and the "
                f"config now says {now!r}; set it back, or {way_out}"
            )
    return position
