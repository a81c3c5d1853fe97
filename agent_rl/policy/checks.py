"""Judges a model that was just loaded, before anything is trained.

What is wrong is refused with a sentence. What is harmless is mended, with a line that says so. The
files themselves are judged earlier, in `agent_rl.policy.folder`.
"""

from collections.abc import Mapping
from typing import Any

from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from agent_rl.config import ConfigError
from agent_rl.display import say
from agent_rl.policy.folder import listed, refuse_quantised

_CHANGES_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Keys of models whose logits are not those of their linear head alone."""
_BESIDE_THE_POLICY = ("mtp.", "v_head.", "value_head.", "visual.", "vision_", "audio_", "score.")
"""Beginnings of names of weights that no token's probability depends on: heads for values or for
more tokens at once, and the parts that see or hear."""
_PLAIN_LAYERS = ("full_attention", "sliding_attention")
"""The kinds of layers that attend to past tokens and keep no other memory of them."""


def check_loaded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    report: Mapping[str, Any],
    source: str,
) -> None:
    """Raise if a loaded model is not the one in its files, or cannot be trained and served.

    A generation config that could not be saved again is mended.

    Args:
        report: transformers' report on the load (`output_loading_info`).
        source: where the model is from; every message begins with it.

    Raises:
        ConfigError: weights are missing, left over or of another shape; the tokenizer has tokens
            that the embedding lacks; or the logits need more than a linear head.
    """
    refuse_quantised(model.config.to_dict(), source)
    _refuse_other_weights(report, source)
    _refuse_changed_logits(model, source)
    embedding: Any = model.get_input_embeddings()
    refuse_large_tokenizer(embedding.weight.shape[0], tokenizer, source)
    _mend_generation_config(model, source)


def refuse_untrainable(config: PreTrainedConfig, source: str, context_length: int) -> None:
    """Raise if the learner's log-probs of a model would not be those of the serving engine.

    Args:
        config: the model's.
        source: where the model is from, for the message.
        context_length: the longest episode, in tokens.

    Raises:
        ConfigError: the model has layers that cannot take packed samples, or its attention does
            not reach back over an episode.
    """
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    others = sorted(kinds.difference(_PLAIN_LAYERS))
    if others:
        raise ConfigError(
            f"model {source}: has layers of the kind {listed(others)}, which the learner cannot "
            "train on packed samples; use a model with attention only, such as Llama, Qwen2.5 or "
            "SmolLM2"
        )
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds or not kinds
    if window and slides and window < context_length:
        raise ConfigError(
            f"model {source}: its attention reaches back {window} tokens (sliding_window), which "
            f"the learner does not apply, but an episode may have {context_length}; set "
            f"serving.context_length to at most {window}, or use another model"
        )


def _refuse_other_weights(report: Mapping[str, Any], source: str) -> None:
    missing, shapes = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    harmless = [name for name in report["unexpected_keys"] if name.startswith(_BESIDE_THE_POLICY)]
    left_over = sorted(set(report["unexpected_keys"]).difference(harmless))
    if missing:
        also = f", and {listed(left_over)} left over" if left_over else ""
        raise ConfigError(
            f"model {source}: {listed(missing)} missing in its weights{also}; they would be random "
            "numbers. Save the model again, whole, so that its weights fit its config.json"
        )
    if shapes:
        name, found, expected = shapes[0]
        raise ConfigError(
            f"model {source}: {name} has the shape {list(found)} in its weights, but its "
            f"config.json says {list(expected)}; put the two files together that belong together"
        )
    if left_over:
        raise ConfigError(
            f"model {source}: {listed(left_over)} left over in its weights, because its "
            "config.json describes a model without them; put the two files together that belong "
            "together"
        )
    if harmless:
        say(f"model {source}: {listed(sorted(harmless))} not loaded, the policy does not need them")


def _refuse_changed_logits(model: PreTrainedModel, source: str) -> None:
    config = model.config.get_text_config()
    for key in _CHANGES_LOGITS:
        if getattr(config, key, None) not in (None, 1.0):
            raise ConfigError(
                f"model {source}: its config sets {key}, which the learner's log-probs do not "
                "apply; use a model whose logits are its linear head's, such as Llama, Qwen2.5 or "
                "SmolLM2"
            )


def refuse_large_tokenizer(rows: int, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raise if the tokenizer has tokens beyond the embedding that a prompt or an action can hold.

    Args:
        rows: of the embedding.
        source: of the model, for the message.

    Raises:
        ConfigError: it has.
    """
    extra = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if any(_is_used(token, tokenizer) for token in extra):
        size = max(extra.values()) + 1
        raise ConfigError(
            f"model {source}: its tokenizer has {size} tokens, but its embedding has {rows} rows "
            f"(tokens without one: {listed(sorted(extra))}); resize the embedding with "
            f"`model.resize_token_embeddings({size})` and save the model, or use its own tokenizer"
        )


def name_all_ends(
    config: PreTrainedConfig, generation: GenerationConfig | None, source: str
) -> None:
    """Let a model's config name every token that ends an answer, so that who has it has them all.

    Most chat models name some only in their generation config.

    Args:
        config: is changed if the generation config names further ones.
        generation: None if the model has none.
        source: of the model, for the message.

    Raises:
        ConfigError: one of them names no tokens, but something else.
    """
    own = _ends(config.eos_token_id, source)
    ends = list(dict.fromkeys([*own, *_ends(getattr(generation, "eos_token_id", None), source)]))
    if ends != own:
        config.eos_token_id = ends if len(ends) > 1 else ends[0]


def _ends(value: Any, source: str) -> list[int]:
    ids = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise ConfigError(
            f"model {source}: eos_token_id {value!r} in its config.json or generation_config.json "
            "is no token id, nor a list of them; copy these files again from the model"
        )
    return list(ids)


def _is_used(token: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a prompt or an action can hold a token; nothing is ever padded with a token."""
    if token not in tokenizer.all_special_tokens:
        return True
    ends = (tokenizer.bos_token, tokenizer.eos_token)
    return token in ends or token in str(tokenizer.chat_template or "")


def _mend_generation_config(model: PreTrainedModel, source: str) -> None:
    """Replace a generation config that contradicts itself: it loads, but no model saves it."""
    config = model.generation_config
    try:
        config.validate(strict=True)
    except ValueError as error:
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )
        reason = " ".join(str(error).split())
        say(
            f"model {source}: of its generation_config.json only the token ids are kept, because "
            f"its sampling settings could not be saved again ({reason.partition('. ')[0]})"
        )
