"""Checkpoints: written whole or not at all, and everything that a run needs to go on as if it had
not stopped.

    checkpoints/step-000010/ model/           Hugging Face folder: weights, config, tokenizer
        learner/         the learner's state: weights and optimizer in one file per rank, schedule
        and shuffle random.pt        the random states of python, numpy and torch state.json
        the trainer's state: rollout step, task sampler, policy version config.yaml      the
        resolved config

A folder is filled as `step-000010.tmp-...` and renamed when every file is on disk, so a kill leaves
the previous checkpoint as the latest.
"""

import json
import os
import pickle
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.policy.loading import save_policy

FOLDER, MODEL, LEARNER = "checkpoints", "model", "learner"
RANDOM, STATE, CONFIG = "random.pt", "state.json", "config.yaml"
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A loaded checkpoint. `model_folder` is for `agent_rl.policy.loading.load_policy`,
    `learner_folder` for the learner.
    """

    model_folder: Path
    learner_folder: Path
    trainer_state: dict[str, Any]
    random_state: dict[str, Any]

    def restore_random_state(self) -> None:
        """Set the random states of python, numpy and torch to those at the save."""
        set_random_state(self.random_state)


def save_checkpoint(
    run_dir: Path,
    step: int,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    save_learner: Callable[[Path], None],
    trainer_state: dict[str, Any],
    config_text: str,
    keep: int = 0,
) -> Path:
    """Write a checkpoint atomically, then remove all but the newest `keep` (0 keeps all). Returns
    its folder.

    `save_learner` writes the learner's state into a new folder; `trainer_state` holds what JSON
    holds. A checkpoint of the same step is replaced.
    """
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("step-*.tmp-*"):
        shutil.rmtree(leftover)
    target = folder / f"step-{step:06d}"
    unfinished = folder / f"{target.name}.tmp-{os.getpid()}"
    unfinished.mkdir()
    save_policy(model, tokenizer, unfinished / MODEL)
    save_learner(unfinished / LEARNER)
    torch.save(random_state(), unfinished / RANDOM)
    (unfinished / STATE).write_text(json.dumps(trainer_state))
    (unfinished / CONFIG).write_text(config_text)
    for path in [*unfinished.rglob("*"), unfinished]:
        _sync(path)
    if target.exists():
        # A folder cannot be renamed onto another: the old one steps aside under a name that nobody
        # loads.
        os.rename(target, folder / f"{target.name}.tmp-replaced")
    os.rename(unfinished, target)
    _sync(folder)
    shutil.rmtree(folder / f"{target.name}.tmp-replaced", ignore_errors=True)
    if keep:
        for old in _whole_checkpoints(run_dir)[:-keep]:
            shutil.rmtree(old)
    return target


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The whole checkpoint of the highest step, or None; unfinished and incomplete folders are
    passed over.
    """
    return next(reversed(_whole_checkpoints(run_dir)), None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's state; the model stays in its folder.

    Raises:
        ValueError: a file is missing or damaged.
    """
    missing = _missing(path)
    if missing:
        raise ValueError(
            f"checkpoint {path}: {', '.join(missing)} missing; remove the folder to go on from the one before"
        )
    try:
        trainer_state = json.loads((path / STATE).read_text())
    except ValueError as error:
        raise _damaged(path / STATE, error) from error
    try:
        # weights_only: a checkpoint holds tensors and plain values, so loading one never runs code
        # out of it.
        random_states = torch.load(path / RANDOM, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise _damaged(path / RANDOM, error) from error
    return Checkpoint(
        model_folder=path / MODEL,
        learner_folder=path / LEARNER,
        trainer_state=trainer_state,
        random_state=random_states,
    )


def random_state() -> dict[str, Any]:
    """The states of python's, numpy's and torch's global generators, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Undo what happened to the global generators since `random_state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _whole_checkpoints(run_dir: Path) -> list[Path]:
    """In the order of their steps."""
    found = [
        (match, path)
        for path in (run_dir / FOLDER).glob("step-*")
        if (match := _NAME.fullmatch(path.name))
    ]
    return [
        path
        for match, path in sorted(found, key=lambda pair: int(pair[0][1]))
        if not _missing(path)
    ]


def _missing(path: Path) -> list[str]:
    files = (f"{MODEL}/config.json", f"{LEARNER}/learner.json", RANDOM, STATE, CONFIG)
    return [name for name in files if not (path / name).is_file()]


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: damaged ({error}); remove the folder {path.parent} to go on from the one before"
    )


def _sync(path: Path) -> None:
    """Force a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
