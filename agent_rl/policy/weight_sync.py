"""The copy of the policy's weights that the serving engine reads: a folder and a version number.

The way of new weights to the engine: `Session.sync` calls `ServingCopy.write`, then
`RolloutPool.sync_weights`, which lets the engine load the folder again.
"""

import copy
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.files import whole_file
from agent_rl.policy.loading import CONFIG, decoder_and_head
from agent_rl.policy.lora import merged_weights, without_wrapper
from rollouts.serving.dtypes import chosen_dtype

WEIGHTS = "model.safetensors"
_PREFIX = "agent-rl-weights-"


class ServingCopy:
    """A folder with the weights that the serving engine reads.

    The folder is in memory if the system has a memory-backed file system, so a sync costs no disk
    access. `close` deletes it. A new copy deletes the folders of processes that were killed.
    """

    folder: Path
    """The folder to load from."""
    version: int
    """Number of the weights in it: 0 at first, one more after each `write`."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: str
    ) -> None:
        """Write the first version.

        Args:
            model: the learner's model.
            tokenizer: its tokenizer, which does not change.
            dtype: of the served weights, as in `serving.dtype`.
        """
        parent = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
        _remove_orphans(parent)
        self.folder = parent / f"{_PREFIX}{os.getpid()}"
        self.version = 0
        self._model = model
        self._dtype = chosen_dtype(dtype, gpu=torch.cuda.is_available())
        save_for_serving(model, self.folder, self._dtype)
        tokenizer.save_pretrained(self.folder)

    def write(self) -> None:
        """Write the model's current weights as the next version."""
        self.version += 1
        save_for_serving(self._model, self.folder, self._dtype)

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def save_for_serving(model: PreTrainedModel, folder: Path, dtype: str) -> None:
    """Write the model as the serving engine loads it: without adapter, untied, in its dtype.

    An adapter is merged tensor by tensor, and the model does not change. The weights replace those
    in the folder at once, so a reader never sees a part.

    Args:
        model: the model to write.
        folder: is made if missing. Only the first call writes its `config.json`.
        dtype: the name of a torch dtype, such as `bfloat16`.
    """
    torch_dtype: torch.dtype = getattr(torch, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    inner = without_wrapper(model)
    # The config does not change, and the engine reads it only when it starts.
    if not (folder / CONFIG).exists():
        config = copy.deepcopy(inner.config)
        config.architectures = [type(inner).__name__]
        config.tie_word_embeddings = False
        config.dtype = torch_dtype
        config.save_pretrained(folder)
    weights = {
        name: tensor.to("cpu", torch_dtype).contiguous() for name, tensor in merged_weights(model)
    }
    # An engine may keep a packed copy of a tied head and not refresh it. So the head is always a
    # separate tensor here, even if the learner's model ties it to the embedding.
    head = decoder_and_head(model)[1].weight
    weights["lm_head.weight"] = head.detach().to("cpu", torch_dtype).clone()
    with whole_file(folder / WEIGHTS) as unfinished:
        save_file(weights, unfinished, metadata={"format": "pt"})


def _remove_orphans(parent: Path) -> None:
    """Delete the copies whose process has ended; the process's number is in the folder's name."""
    for folder in parent.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX)
        if not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
