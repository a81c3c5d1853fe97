"""Checkpoints: all that a run needs to continue as if it had not stopped.

    checkpoints/step-000010/
      model/         the policy as a Hugging Face folder: weights, config, tokenizer
      learner/       the learner's state: weights and optimizer per rank, schedule, shuffle
      random.pt      the random states of python, numpy and torch
      state.json     the trainer's state: rollout step, task sampler
      config.yaml    the resolved config

A folder appears whole or not at all. So after a kill the previous checkpoint is the newest one.
"""

import json
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent_rl.files import UNFINISHED, whole_folder
from agent_rl.policy.folder import check_adapter, check_folder
from agent_rl.policy.lora import ADAPTER
from agent_rl.runs.layout import (
    CHECKPOINT_LEARNER,
    CHECKPOINT_MODEL,
    CHECKPOINT_RANDOM,
    CHECKPOINT_STATE,
    CONFIG_FILE,
    StageLayout,
    missing_files,
)

_LEFTOVERS = (f"step-*{UNFINISHED}*", "step-*.tmp-*")
"""Names of folders that a killed run leaves; those of earlier versions end in `.tmp-`."""

_TORN_PICKLE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
)
"""What `torch.load` raises for a damaged file."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a run after a rollout step, to be saved."""

    step: int
    """The rollout step, counted from 1."""
    save_model: Callable[[Path], None]
    """Writes the policy into a new folder at the path, as `save_policy` does."""
    save_learner: Callable[[Path], None]
    """Writes the learner's state into a new folder at the path."""
    trainer_state: dict[str, Any]
    """The trainer's state, in JSON's types."""
    random_state: dict[str, Any]
    """The global random states after the step, as in `random_state`."""
    config_text: str
    """The resolved config as YAML."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint."""

    model_folder: Path
    """The policy, for `agent_rl.policy.loading.load_policy`."""
    learner_folder: Path
    """The learner's state, for `Learner.load`."""
    trainer_state: dict[str, Any]
    """The trainer's state, as it was given to `save_checkpoint`."""
    random_state: dict[str, Any]
    """The global random states, as in `random_state`."""

    def restore_random_state(self) -> None:
        """Set the random states of python, numpy and torch to those at the save."""
        set_random_state(self.random_state)


def save_checkpoint(folder: Path, snapshot: Snapshot, *, keep: int = 0) -> Path:
    """Write a checkpoint, whole or not at all, and delete old ones.

    Args:
        folder: the stage's folder, `RUN/train`.
        snapshot: the state to save. A checkpoint of the same step is replaced.
        keep: the number of newest checkpoints that stay; 0 keeps all.

    Returns:
        The checkpoint's folder.
    """
    stage = StageLayout(folder)
    # A leftover is as large as a checkpoint: delete it before the disk has to hold a new one.
    for pattern in _LEFTOVERS:
        for leftover in stage.checkpoints.glob(pattern):
            shutil.rmtree(leftover)
    target = stage.checkpoint(snapshot.step)
    with whole_folder(target, replace=True) as unfinished:
        snapshot.save_model(unfinished / CHECKPOINT_MODEL)
        snapshot.save_learner(unfinished / CHECKPOINT_LEARNER)
        torch.save(snapshot.random_state, unfinished / CHECKPOINT_RANDOM)
        (unfinished / CHECKPOINT_STATE).write_text(json.dumps(snapshot.trainer_state))
        (unfinished / CONFIG_FILE).write_text(snapshot.config_text)
    if keep:
        for old in stage.whole_checkpoints()[:-keep]:
            shutil.rmtree(old)
    return target


def require_whole_model(path: Path) -> None:
    """Raise if the model in a checkpoint is damaged, before anything of it is loaded.

    Raises:
        ValueError: a file is missing, cut off or damaged; the message offers the checkpoint before.
    """
    model = path / CHECKPOINT_MODEL
    try:
        check_folder(model)
        if (model / ADAPTER).is_dir():
            check_adapter(model / ADAPTER)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}; or {way_out(path)}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's state; the model and the learner's state stay in their folders.

    Raises:
        ValueError: a file is missing or damaged; the message names the checkpoint before it.
    """
    missing = missing_files(path)
    if missing:
        raise ValueError(f"checkpoint {path}: {', '.join(missing)} missing; {way_out(path)}")
    require_whole_model(path)
    try:
        trainer_state = json.loads((path / CHECKPOINT_STATE).read_text())
    except ValueError as error:
        raise _damaged(path / CHECKPOINT_STATE, error) from error
    try:
        # weights_only: the file holds tensors and plain values, so loading never runs its code.
        random_states = torch.load(path / CHECKPOINT_RANDOM, map_location="cpu", weights_only=True)
    except _TORN_PICKLE as error:
        raise _damaged(path / CHECKPOINT_RANDOM, error) from error
    return Checkpoint(
        model_folder=path / CHECKPOINT_MODEL,
        learner_folder=path / CHECKPOINT_LEARNER,
        trainer_state=trainer_state,
        random_state=random_states,
    )


def way_out(path: Path) -> str:
    """What to do about a damaged checkpoint, as the end of a message."""
    earlier = [
        other
        for other in StageLayout(path.parent.parent).whole_checkpoints()
        if other.name < path.name
    ]
    if not earlier:
        return f"remove the folder {path} to start again, as there is none before it"
    return f"remove the folder {path} to resume from the one before, {earlier[-1].name}"


def random_state() -> dict[str, Any]:
    """Return the states of the global generators of python, numpy and torch.

    All are tensors and plain values, which `torch.load` reads with `weights_only`.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set the global generators to a result of `random_state`.

    CUDA's states are set only if there are as many devices as at the save.
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: damaged ({error}); {way_out(path.parent)}")
