"""A chat template of the user's own, in the tokenizer that a run's processes load and save."""

from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.learner.processes import LoadPolicy
from rollouts import PromptSettings
from rollouts.rendering.chat_template import read_template

_FILE = "chat_template.jinja"
"""Where a tokenizer's folder has its template."""


def with_own_template(load: LoadPolicy, settings: PromptSettings) -> LoadPolicy:
    """Return a loader whose tokenizer has the chat template of `prompt.template`, if it is set.

    The file is read now: the loader may be called on a machine that does not have it.

    Raises:
        ValueError: the file cannot be read.
    """
    text = read_template(settings.template)
    return partial(_load, load, text) if text else load


def own_template_has_changed(policy: Path, settings: PromptSettings) -> bool:
    """Return whether `prompt.template` is no longer the text that a run's policy was saved with.

    Raises:
        ValueError: the file cannot be read.
    """
    saved, text = policy / _FILE, read_template(settings.template)
    return bool(text) and saved.is_file() and saved.read_text(encoding="utf-8") != text


def _load(load: LoadPolicy, template: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load()
    tokenizer.chat_template = template
    return model, tokenizer
