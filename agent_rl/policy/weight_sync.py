"""The copy of the policy's weights that the serving engine reads: a folder.

The way of new weights to the engine: `Session.sync` calls `write`, of the learner's `ServingCopy`
or of its own. Then `RolloutPool.sync_weights` lets the engine load the folder again.
"""

import copy
import logging
import tempfile
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.config import ConfigError
from agent_rl.files import is_disk_full, whole_file
from agent_rl.policy.experts import in_files
from agent_rl.policy.folder import CONFIG, WEIGHTS
from agent_rl.policy.loading import decoder_and_head
from agent_rl.policy.lora import merged_weights, without_wrapper
from agent_rl.policy.whole import is_first, whole, whole_weights
from rollouts.processes.serving_folder import ServingFolder, remove_stale_folders, roomy_parent
from rollouts.serving.dtypes import chosen_dtype

HEAD = "lm_head.weight"
"""The name of the served head."""


class ServedWeights(Protocol):
    """The weights that an engine serves, wherever they are trained."""

    @property
    def folder(self) -> Path:
        """The folder to load from, with the weights of the last `write`, or the first ones."""

    def write(self) -> None:
        """Write the present weights. `folder` may be another one afterwards."""


class ServingCopy:
    """A folder with the weights that the serving engine reads.

    The folder is in memory if the system has a memory-backed file system with room for two
    versions, so a sync costs no disk access. Only this user can read it. `close` deletes it. A new
    copy deletes the folders of processes that were killed.

    If processes share the model, the first has the copy, and the others call `serving_weights` for
    each version.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: str
    ) -> None:
        """Write the first weights.

        Args:
            model: the learner's model.
            tokenizer: its tokenizer, which does not change.
            dtype: of the served weights, as in `serving.dtype`.

        Raises:
            ValueError: there is no room for two versions of the weights.
        """
        self._model, self._tokenizer = model, tokenizer
        self._dtype = chosen_dtype(dtype, gpu=torch.cuda.is_available())
        # First: stale folders take room, too.
        remove_stale_folders()
        self._folders = [ServingFolder(roomy_parent(served_bytes(model, self._dtype)))]
        try:
            self._save()
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> Path:
        """The folder to load from. A `write` changes it if the old one has become too full."""
        return self._folders[-1].path

    def write(self) -> None:
        """Write the model's current weights.

        Raises:
            ConfigError: there is no room for them any more, nor in the temporary folder.
        """
        self._save()

    def close(self) -> None:
        """Delete the folder."""
        for folder in self._folders:
            folder.close()

    def _save(self) -> None:
        # Once, also if the folder turns out to be full: other processes may take part.
        weights = serving_weights(self._model, self._dtype)
        try:
            self._fill(self.folder, weights)
        except Exception as error:  # each library has errors of its own for a full disk
            if not is_disk_full(error):
                raise
            self._move(weights, error)

    def _fill(self, folder: Path, weights: dict[str, Tensor]) -> None:
        if not (folder / CONFIG).exists():
            self._tokenizer.save_pretrained(folder)
        _write(self._model, folder, self._dtype, weights)

    def _move(self, weights: dict[str, Tensor], reason: Exception) -> None:
        """Go on in the temporary folder, as something else has filled the place of the old one."""
        full, temporary = self.folder, Path(tempfile.gettempdir())
        if temporary == full.parent:
            raise _no_room(full.parent) from reason
        new = ServingFolder(temporary)
        try:
            self._fill(new.path, weights)
        except BaseException as error:
            new.close()
            if is_disk_full(error):
                raise _no_room(full.parent, temporary) from error
            raise
        # The rest of the old folder stays: a worker that starts later reads its tokenizer there.
        (full / WEIGHTS).unlink(missing_ok=True)
        self._folders.append(new)
        logging.getLogger(__name__).warning(
            "%s is full: the served weights go to %s, where a sync takes longer",
            *(full.parent, temporary),
        )


def served_bytes(model: PreTrainedModel, dtype: str) -> int:
    """Return the size of the weights that `save_for_serving` writes, or a little more."""
    inner = without_wrapper(model)
    count = sum(weight.numel() for weight in inner.parameters())
    embedding, head = inner.get_input_embeddings().weight, decoder_and_head(model)[1].weight
    count += head.numel() if head is embedding else 0
    return count * int(getattr(torch, dtype).itemsize)


def served_config(config: PreTrainedConfig, architecture: str, dtype: str) -> PreTrainedConfig:
    """Return the config of the served copy of a model, whose head is a separate tensor.

    Args:
        config: the model's.
        architecture: the name of the model's class.
        dtype: the name of a torch dtype, such as `bfloat16`.
    """
    served = copy.deepcopy(config)
    served.architectures = [architecture]
    served.tie_word_embeddings = False
    served.dtype = getattr(torch, dtype)
    return served


def save_for_serving(model: PreTrainedModel, folder: Path, dtype: str) -> None:
    """Write the model as the serving engine loads it: without adapter, untied, in its dtype.

    The weights replace those in the folder at once, so a reader never sees a part. All processes
    that share the model call this, and the first one writes.

    Args:
        model: the model to write.
        folder: is made if missing. Only the first call writes its `config.json`.
        dtype: the name of a torch dtype, such as `bfloat16`.
    """
    weights = serving_weights(model, dtype)
    if is_first():
        _write(model, folder, dtype, weights)


def serving_weights(model: PreTrainedModel, dtype: str) -> dict[str, Tensor]:
    """Return the weights that `save_for_serving` writes.

    All processes that share the model call this. An adapter is merged tensor by tensor, and the
    model does not change. Each tensor is gathered and cast before the next: there is no second
    whole model in the dtype of training.

    Args:
        dtype: the name of a torch dtype, such as `bfloat16`.

    Returns:
        Tensors on CPU in the first process, and none in the others. Experts are taken apart.
    """
    torch_dtype: torch.dtype = getattr(torch, dtype)
    weights = whole_weights(merged_weights(model), torch_dtype)
    # An engine may keep a packed copy of a tied head and not refresh it. So the head is always a
    # separate tensor here, even if the learner's model ties it to the embedding.
    head = whole(decoder_and_head(model)[1].weight.detach())
    if is_first():
        weights[HEAD] = head.to("cpu", torch_dtype).clone()
    return in_files(model, weights)


def _write(model: PreTrainedModel, folder: Path, dtype: str, weights: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    inner = without_wrapper(model)
    # The config does not change, and the engine reads it only when it starts.
    if not (folder / CONFIG).exists():
        served_config(inner.config, type(inner).__name__, dtype).save_pretrained(folder)
    with whole_file(folder / WEIGHTS) as unfinished:
        save_file(weights, unfinished, metadata={"format": "pt"})


def _no_room(*folders: Path) -> ConfigError:
    places = " and ".join(map(str, folders))
    return ConfigError(
        f"{places}: full, so the new weights cannot be handed to the serving engine; free space "
        "there, or name a larger folder in TMPDIR, and resume"
    )
