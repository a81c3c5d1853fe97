"""From the learner's weights to the serving engine's: a memory-backed folder and a version number."""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.policy.loading import save_for_serving
from rollouts.serving.dtypes import chosen_dtype

_PREFIX = "agent-rl-weights-"


class Publisher:
    """Writes the policy where the engine reads it.

    The folder is in memory where the system has a memory-backed file system, so that a sync costs
    no disk. It goes away with `close()`; what a killed run left there is removed when the next one
    starts.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: str
    ) -> None:
        parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
        _remove_orphans(parent)
        self.folder = parent / f"{_PREFIX}{os.getpid()}"
        self.version = 0
        self._model = model
        self._dtype = chosen_dtype(dtype, gpu=torch.cuda.is_available())
        save_for_serving(model, self.folder, self._dtype)
        tokenizer.save_pretrained(self.folder)

    def write(self) -> None:
        """Write the model's present weights, as the next version."""
        self.version += 1
        save_for_serving(self._model, self.folder, self._dtype)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_orphans(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX)
        if not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
