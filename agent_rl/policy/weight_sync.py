"""The copy of the policy's weights that the serving engine reads: a folder.

With `serving.lora: adapter` the base's weights are written once, and then the adapter alone.

The way of new weights to the engine: `Session.sync` calls `write`, of the learner's `ServingCopy`
or of its own. Then `RolloutPool.sync_weights` lets the engine load the folder again.
"""

import copy
import logging
import shutil
import tempfile
from collections.abc import Iterable
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
from agent_rl.policy.lora import (
    adapter_weights,
    base_weights,
    has_adapter,
    merged_weights,
    save_adapter_config,
    without_wrapper,
)
from agent_rl.policy.whole import is_first, whole, whole_weights
from rollouts.processes.serving_folder import ServingFolder, remove_stale_folders, roomy_parent
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.served_adapter import CONFIG as ADAPTER_CONFIG
from rollouts.serving.served_adapter import FOLDER
from rollouts.serving.served_adapter import WEIGHTS as ADAPTER_WEIGHTS

Files = dict[str, dict[str, Tensor]]
"""Files of weights by their names in the served folder: in each, tensors by name."""

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

    If processes share the model, the first has the copy, and the others call `served_files` for
    each version.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str,
        *,
        lora: str = "merged",
    ) -> None:
        """Write the first weights.

        Args:
            model: the learner's model.
            tokenizer: its tokenizer, which does not change.
            dtype: of the served weights, as in `serving.dtype`.
            lora: how an adapter is served, as in `serving.lora`.

        Raises:
            ValueError: there is no room for two versions of the weights.
        """
        self._model, self._tokenizer, self._lora = model, tokenizer, lora
        self._dtype = chosen_dtype(dtype, gpu=torch.cuda.is_available())
        # First: stale folders take room, too.
        remove_stale_folders()
        self._folders = [ServingFolder(roomy_parent(*_sizes(model, self._dtype, lora)))]
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
        again = (self.folder / WEIGHTS).exists()
        files = served_files(self._model, self._dtype, self._lora, again=again)
        try:
            self._fill(self.folder, files)
        except Exception as error:  # each library has errors of its own for a full disk
            if not is_disk_full(error):
                raise
            self._move(files, error)

    def _fill(self, folder: Path, files: Files) -> None:
        if not (folder / CONFIG).exists():
            self._tokenizer.save_pretrained(folder)
        _write(self._model, folder, self._dtype, files)

    def _move(self, files: Files, reason: Exception) -> None:
        """Go on in the temporary folder, as something else has filled the place of the old one."""
        full, temporary = self.folder, Path(tempfile.gettempdir())
        if temporary == full.parent:
            raise _no_room(full.parent) from reason
        new = ServingFolder(temporary)
        try:
            if WEIGHTS not in files:  # an adapter's base is written once
                shutil.copyfile(full / WEIGHTS, new.path / WEIGHTS)
            self._fill(new.path, files)
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
    files = served_files(model, dtype)
    if is_first():
        _write(model, folder, dtype, files)


def served_files(
    model: PreTrainedModel, dtype: str, lora: str = "merged", *, again: bool = False
) -> Files:
    """Return the files of weights to write for the serving engine.

    All processes that share the model call this. An adapter is merged tensor by tensor, and the
    model does not change. Each tensor is gathered and cast before the next: there is no second
    whole model in the dtype of training.

    Args:
        dtype: the name of a torch dtype, such as `bfloat16`.
        lora: `merged`, or `adapter` for a file of the adapter beside that of its base.
        again: whether the folder has the first version already. Then the base's file is left out.

    Returns:
        Tensors on CPU in the first process, and none in the others. Experts are taken apart.
    """
    torch_dtype: torch.dtype = getattr(torch, dtype)
    if not _is_apart(model, lora):
        return {WEIGHTS: _with_head(model, merged_weights(model), torch_dtype)}
    adapter = whole_weights(adapter_weights(model).items(), torch_dtype)
    base = {} if again else {WEIGHTS: _with_head(model, base_weights(model), torch_dtype)}
    return base | {f"{FOLDER}/{ADAPTER_WEIGHTS}": adapter}


def _is_apart(model: PreTrainedModel, lora: str) -> bool:
    """Whether a model's adapter is served as one."""
    return lora == "adapter" and has_adapter(model)


def _sizes(model: PreTrainedModel, dtype: str, lora: str) -> tuple[int, int]:
    """The bytes that each version writes, and those that only the first one does."""
    whole_bytes = served_bytes(model, dtype)
    if not _is_apart(model, lora):
        return whole_bytes, 0
    count = sum(weight.numel() for weight in adapter_weights(model).values())
    return count * int(getattr(torch, dtype).itemsize), whole_bytes


def _with_head(
    model: PreTrainedModel, weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Whole weights with a head of their own.

    An engine may keep a packed copy of a tied head and not refresh it. So the head is always a
    separate tensor here, even if the learner's model ties it to the embedding.
    """
    kept = whole_weights(weights, dtype)
    head = whole(decoder_and_head(model)[1].weight.detach())
    if is_first():
        kept[HEAD] = head.to("cpu", dtype).clone()
    return in_files(model, kept)


def _write(model: PreTrainedModel, folder: Path, dtype: str, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    inner = without_wrapper(model)
    # The configs do not change, and the engine reads them only when it starts.
    if not (folder / CONFIG).exists():
        served_config(inner.config, type(inner).__name__, dtype).save_pretrained(folder)
    for name, weights in files.items():
        path = folder / name
        if path.parent != folder and not (path.parent / ADAPTER_CONFIG).exists():
            save_adapter_config(model, path.parent)
        with whole_file(path) as unfinished:
            save_file(weights, unfinished, metadata={"format": "pt"})


def _no_room(*folders: Path) -> ConfigError:
    places = " and ".join(map(str, folders))
    return ConfigError(
        f"{places}: full, so the new weights cannot be handed to the serving engine; free space "
        "there, or name a larger folder in TMPDIR, and resume"
    )
