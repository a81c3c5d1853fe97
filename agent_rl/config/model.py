"""The settings of the model: loaded or made from scratch, trained whole or by an adapter."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rollouts.settings import Settings

TokensWithin = Literal["words", "names"]


class LoraSettings(Settings):
    """A low-rank adapter (LoRA, arXiv 2106.09685) that is trained in place of the weights.

    A layer W computes W x + (alpha / rank) B A x, and only A and B are trained. There is no
    dropout: the old and the new log-probs would come from different policies.
    """

    rank: int = Field(default=16, ge=1)
    """Rows of A and columns of B; a higher rank can change more."""

    alpha: int = Field(default=32, ge=1)
    """Scale of the adapter: its output is multiplied by alpha / rank. Usually twice the rank."""

    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers with an adapter: last parts of names, as in `[q_proj, v_proj]`, or `all-linear`, which
    is every linear layer of the decoder. Experts and their router are none."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _names_or_all(cls, value: Any) -> Any:
        if value == "all-linear":
            return value
        is_list = isinstance(value, list | tuple) and len(value) > 0
        if not is_list or not all(isinstance(name, str) and name for name in value):
            raise ValueError(
                "write all-linear, or a list of layers' names such as [q_proj, v_proj]"
            )
        return value


class ModelSettings(Settings):
    """The policy's model: loaded from `path`, or made from scratch in the Llama architecture, with
    `experts` in that of Mixtral.

    The defaults suit a small model on CPU. Attention takes a third to a half of its time there, and
    few heads of 64 cost less than many of 32.
    """

    path: str = ""
    """Model to start from: a Hugging Face folder, a hub name or a `.gguf` file. Empty: a model from
    scratch, and all keys below but `revision` and `lora` describe it."""

    revision: str = ""
    """Commit, branch or tag of a hub model in `path`; empty is its newest commit. A commit pins the
    model: nobody can change what a run loads."""

    corpus_tasks: int = Field(default=64, ge=1)
    """Training tasks whose texts train the tokenizer; a few dozen show most words of a world."""

    vocab_size: int = Field(default=1024, ge=259)
    """Tokens of the tokenizer, at most: 256 bytes, 3 special tokens, and pieces of words. The
    default is enough for the words of a small world."""

    tokens_within: TokensWithin = "words"
    """Limits of a token: `words`, or `names`, in which a word and its number ("drawer 12") can be
    one token. ALFWorld has about 1,000 names, so `names` needs a larger `vocab_size`."""

    tied: bool = False
    """Whether one matrix both embeds tokens and predicts them."""

    hidden_size: int = Field(default=128, ge=8)
    """Width of the decoder. `hidden_size / heads` must be a multiple of 32 for vLLM on CPU."""

    layers: int = Field(default=4, ge=1)
    """Layers of the decoder."""

    heads: int = Field(default=2, ge=1)
    """Attention heads for queries."""

    kv_heads: int = Field(default=2, ge=1)
    """Attention heads for keys and values; must divide `heads`."""

    intermediate_size: int = Field(default=384, ge=8)
    """Width within each layer's feed-forward network; with `experts`, within each of them."""

    experts: int = Field(default=0, ge=0)
    """Feed-forward networks of each layer, from which a router chooses for each token (a mixture of
    experts, as in Mixtral); 0 is one network without a router."""

    experts_per_token: int = Field(default=2, ge=1)
    """Experts that a token goes through: at least 2, as the router learns from their weights."""

    context_length: int = Field(default=1024, ge=16)
    """Positions, in tokens: the longest episode that the model can read."""

    lora: LoraSettings | None = None
    """Adapter that reinforcement learning trains; null trains all weights. The warm start always
    trains all weights."""

    def revision_of(self, source: str) -> str:
        """Return the revision to load `source` at: that of `path`, and none of other models."""
        return self.revision if source == self.path else ""

    @model_validator(mode="after")
    def _revision_has_a_path(self) -> Self:
        if self.revision and not self.path:
            raise ValueError(
                f"revision {self.revision!r} is of a hub model, and path names none; set "
                "model.path, or remove model.revision"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 32:
            raise ValueError(
                f"hidden_size {self.hidden_size} over heads {self.heads} is no multiple of 32, "
                "which vLLM's attention on CPU needs: choose others"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}: choose a "
                "divisor"
            )
        return self

    @model_validator(mode="after")
    def _experts_can_be_chosen(self) -> Self:
        chosen = self.experts_per_token
        if self.experts == 0:
            if chosen != type(self).model_fields["experts_per_token"].default:
                raise ValueError(
                    f"experts_per_token {chosen} chooses from experts, and experts is 0; set "
                    "experts, or remove experts_per_token"
                )
            return self
        if self.experts == 1:
            raise ValueError(
                "experts 1 leaves no choice to the router; set at least 2, or 0 for one network "
                "without a router"
            )
        if chosen > self.experts:
            raise ValueError(
                f"experts_per_token {chosen} is more than experts {self.experts}: choose at most "
                "as many"
            )
        if chosen == 1:
            raise ValueError(
                "experts_per_token 1 gives the only expert the weight 1, whatever the router says, "
                "so the router would never learn; set at least 2"
            )
        return self
