from typing import Any

import pytest
import torch

from agent_rl.config.model import ModelSettings, TokensWithin
from agent_rl.policy.from_scratch import init_model, train_tokenizer

TEXTS = ["You are in the middle of a room. You see a drawer 1, a shelf 2.\n> go to drawer 1"] * 3


@pytest.mark.parametrize("within", ["words", "names"])
@pytest.mark.parametrize(
    "text", [*TEXTS[:1], "  two  spaces\t\n", "Grüße, 世界 🌍 7", "don't , stop .", "12 drawer 12"]
)
def test_the_tokenizer_is_lossless(text: str, within: TokensWithin) -> None:
    tokenizer = train_tokenizer(TEXTS, 400, within)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id} & set(ids)


def test_the_tokenizer_learns_words_and_has_its_special_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    assert tokenizer.tokenize("You see a drawer 1") == ["You", "Ġsee", "Ġa", "Ġdrawer", "Ġ1"]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (
        "<|pad|>",
        "<|bos|>",
        "<|end|>",
    )
    assert tokenizer.encode("go<|end|>", add_special_tokens=False)[-1] == tokenizer.eos_token_id
    with pytest.raises(ValueError, match="vocab_size 258 is below 259"):
        train_tokenizer(TEXTS, 258)


def test_a_name_with_its_number_may_be_one_token() -> None:
    tokenizer = train_tokenizer(
        ["You see a drawer 12, and a mug 3. On it, a mug."] * 2, 400, "names"
    )
    tokens = tokenizer.tokenize("You see a drawer 12, and a mug 3. On it")
    assert tokens == ["You", "Ġsee", "Ġa", "ĠdrawerĠ12", ",Ġand", "Ġa", "ĠmugĠ3", ".ĠOn", "Ġit"]
    # With a number that the corpus does not have, and across the end of a line, it is cut.
    assert tokenizer.tokenize(" mug 9")[-1] == "9"
    assert tokenizer.tokenize(" mug\n3") == ["Ġmug", "Ċ", "3"]


@pytest.mark.parametrize("tied", [False, True])
def test_names_begin_as_their_word_and_their_number(tied: bool) -> None:
    text = "You see a drawer 1, a drawer 2, a mug 1 and a mug 2. Put a mug in drawer, or a shelf."
    tokenizer = train_tokenizer([text] * 2, 400, "names")
    sizes = ModelSettings(hidden_size=64, layers=1, heads=1, kv_heads=1, tied=tied)
    model: Any = init_model(sizes, tokenizer)
    names = (" mug", " mug 1", " mug 2", " drawer", " drawer 1", " drawer 2", " shelf")
    for weight in (model.get_input_embeddings().weight, model.lm_head.weight):
        vector = {}
        for name in names:
            (token,) = tokenizer.encode(name, add_special_tokens=False)
            vector[name] = weight[token].detach()
        root = 2**0.5
        number = root * vector[" mug 1"] - vector[" mug"]
        torch.testing.assert_close(root * vector[" drawer 1"] - vector[" drawer"], number)
        difference = vector[" mug 2"] - vector[" mug 1"]
        torch.testing.assert_close(vector[" drawer 2"] - vector[" drawer 1"], difference)
        # 64 draws of 0.02: sqrt(64) x 0.02 = 0.16.
        for name in names:
            assert 0.1 < vector[name].norm() < 0.22, name


def test_the_seed_decides_the_weights_and_touches_no_other_draw() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    sizes = ModelSettings(hidden_size=32, layers=1, heads=1, kv_heads=1, intermediate_size=8)
    before = torch.get_rng_state()
    first, again = (init_model(sizes, tokenizer, seed=3).lm_head.weight for _ in range(2))
    other = init_model(sizes, tokenizer, seed=4).lm_head.weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_experts_that_are_all_alike_are_a_dense_network() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "layers": 2,
        "heads": 1,
        "kv_heads": 1,
        "intermediate_size": 8,
    }
    dense: Any = init_model(ModelSettings(**sizes), tokenizer)
    mixture: Any = init_model(ModelSettings(**sizes, experts=3), tokenizer)
    weights = dense.state_dict()
    with torch.no_grad():
        for name, weight in mixture.named_parameters():
            if name in weights:
                weight.copy_(weights[name])
        for layer, of_dense in zip(mixture.model.layers, dense.model.layers, strict=True):
            mlp = of_dense.mlp
            # The same for each: the second dimension is of all experts.
            layer.mlp.experts.gate_up_proj.copy_(
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            )
            layer.mlp.experts.down_proj.copy_(mlp.down_proj.weight)
    # Only the routers are left, and the weights that they give a token's experts add up to 1.
    ids = torch.arange(40)[None]
    expected = dense(input_ids=ids).logits
    assert expected.std() > 0.05
    torch.testing.assert_close(mixture(input_ids=ids).logits, expected)


def test_the_seed_decides_the_weights_of_experts() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    sizes = ModelSettings(
        hidden_size=32, layers=1, heads=1, kv_heads=1, intermediate_size=8, experts=2
    )
    first, again, other = (
        init_model(sizes, tokenizer, seed=seed).state_dict()["model.layers.0.mlp.experts.down_proj"]
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0.01 < float(first.std()) < 0.03
