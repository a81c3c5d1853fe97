"""The shapes of models: what an estimate of memory and time needs to know of them.

No weights are loaded. A model is built without numbers (torch's `meta` device), and counted.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config

from agent_rl.config import Config
from agent_rl.config.model import LoraSettings, ModelSettings
from agent_rl.policy.from_scratch import config_from_scratch, llama_config
from agent_rl.policy.loading import decoder_and_head, load_description


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder with a head. Widths are numbers of features."""

    parameters: int
    """All weights; those of a tied head count once."""
    matrices: tuple[tuple[str, int, int], ...]
    """The linear layers of the decoder: the last part of the name, inputs, outputs."""
    tied: bool
    """Whether the head is the embedding."""
    layers: int
    """Layers of the decoder."""
    hidden: int
    """The width between layers."""
    heads: int
    """Attention heads of the queries."""
    queries: int
    """The width of all queries of a token, in one layer."""
    keys: int
    """The width of all keys of a token, in one layer; that of the values is the same."""
    inner: int
    """The width within a feed-forward network."""
    vocabulary: int
    """Tokens that the head predicts."""
    context: int
    """The most tokens that the model reads."""

    @property
    def matrix_weights(self) -> int:
        """The weights of the decoder's linear layers."""
        return sum(inputs * outputs for _, inputs, outputs in self.matrices)

    @property
    def head_weights(self) -> int:
        """The weights of the head."""
        return self.hidden * self.vocabulary

    @property
    def served_parameters(self) -> int:
        """The weights in the engine, whose head is always a separate tensor."""
        return self.parameters + (self.head_weights if self.tied else 0)

    def trained(self, lora: LoraSettings | None) -> int:
        """Return the number of weights that are trained: all, or those of an adapter."""
        if lora is None:
            return self.parameters
        wanted = lora.target_modules
        return sum(
            lora.rank * (inputs + outputs)
            for name, inputs, outputs in self.matrices
            if wanted == "all-linear" or name in wanted
        )


def shape_of(config: PreTrainedConfig) -> ModelShape:
    """Return the shape of a model with this config.

    Raises:
        ValueError: its layers are mixtures of experts, whose work depends on the tokens.
    """
    for name in ("num_local_experts", "num_experts"):
        if experts := getattr(config.get_text_config(), name, None):
            raise ValueError(
                f"model: {config.model_type} has {experts} experts ({name}), and only dense models "
                "can be estimated; run it for a step instead"
            )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    decoder, head = decoder_and_head(model)
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        matrices=tuple(
            (name.rpartition(".")[2], part.in_features, part.out_features)
            for name, part in decoder.named_modules()
            if isinstance(part, nn.Linear)
        ),
        tied=head.weight is model.get_input_embeddings().weight,
        layers=text.num_hidden_layers,
        hidden=head.in_features,
        heads=text.num_attention_heads,
        queries=text.num_attention_heads * size,
        keys=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * size,
        inner=text.intermediate_size,
        vocabulary=head.out_features,
        context=text.max_position_embeddings,
    )


def model_config_of(config: Config) -> PreTrainedConfig:
    """Return the model config of an experiment, without its weights.

    A model from scratch counts with all of `model.vocab_size`; its tokenizer may have fewer.

    Raises:
        ValueError: there is no model at `model.path`, as far as its description shows.
    """
    model = config.model
    if not model.path:
        return config_from_scratch(model, model.vocab_size)
    if model.path in PUBLISHED:
        return PUBLISHED[model.path]
    description, _ = load_description(model.path, revision=model.revision)
    return description


def _qwen(
    sizes: tuple[int, int, int, int], *, inner: int, vocabulary: int, tied: bool
) -> Qwen2Config:
    """Qwen2.5 with these sizes: width, layers, heads, and heads of keys."""
    hidden, layers, heads, keys = sizes
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        max_position_embeddings=32768,
        tie_word_embeddings=tied,
        rms_norm_eps=1e-6,
    )


SMOLLM2 = ModelSettings(
    hidden_size=576,
    layers=30,
    heads=9,
    kv_heads=3,
    intermediate_size=1536,
    context_length=8192,
    tied=True,
)
"""The sizes of SmolLM2-135M."""

PUBLISHED: dict[str, Qwen2Config | LlamaConfig] = {
    "Qwen/Qwen2.5-0.5B-Instruct": _qwen((896, 24, 14, 2), inner=4864, vocabulary=151936, tied=True),
    "Qwen/Qwen2.5-1.5B-Instruct": _qwen(
        (1536, 28, 12, 2), inner=8960, vocabulary=151936, tied=True
    ),
    "Qwen/Qwen2.5-3B-Instruct": _qwen((2048, 36, 16, 2), inner=11008, vocabulary=151936, tied=True),
    "Qwen/Qwen2.5-7B-Instruct": _qwen(
        (3584, 28, 28, 4), inner=18944, vocabulary=152064, tied=False
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": llama_config(SMOLLM2, 49152),
}
"""The shapes of models as published, by hub name, so that nothing has to be downloaded."""
