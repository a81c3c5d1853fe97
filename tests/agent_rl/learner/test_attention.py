"""A pack of samples against each sample alone, in transformers' own attention."""

from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from agent_rl.commands.bench.gpu.checks import gradients_of as gradients
from agent_rl.commands.bench.gpu.checks import packed_states as packed
from agent_rl.commands.bench.gpu.checks import states_alone as alone
from agent_rl.config.model import ModelSettings
from agent_rl.learner import attention
from agent_rl.learner.attention import packed_attention, use_packed_attention
from agent_rl.learner.prefix_tree import Branch, PrefixTree
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from tests.builders.tiny_learner import with_exact_norms

SAMPLES = [[1, 5, 3, 9, 2], [7], [4, 4, 8], [11, 2, 6, 6, 1, 3, 12]]
# One sample is the beginning of six others, one is there twice, and two share nothing but 7, with
# each other. Laid out: 1 5, then 3 4, 9 2 behind 1 5 3, 8 8 behind 1 5 3 9, 6 6 behind 1 5, 11
# behind 1 5 6; 7 2, and 3 behind 7.
FORKED = [
    [1, 5, 3, 9, 2],
    [7, 2],
    [1, 5, 3, 4],
    [1, 5],
    [1, 5, 6, 6],
    [1, 5, 3, 9, 8, 8],
    [1, 5, 3, 9, 2],
    [7, 3],
    [1, 5, 6, 11],
]
TOKENIZER = train_tokenizer(["a room with a drawer"], 260)


def llama(kv_heads: int = 2) -> LlamaForCausalLM:
    """Always the same weights, in float64, large enough for attention to look somewhere."""
    settings = ModelSettings(
        hidden_size=64,
        layers=2,
        heads=2,
        kv_heads=kv_heads,
        intermediate_size=24,
        context_length=32,
    )
    model = init_model(settings, TOKENIZER, seed=1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10.0)
    exact: LlamaForCausalLM = with_exact_norms(model)
    return exact


def mistral(sliding_window: int) -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        sliding_window=sliding_window,
        initializer_range=0.3,
    )
    return MistralForCausalLM(config).double().eval()  # type: ignore[no-any-return, no-untyped-call]


def test_the_forked_samples_share_their_beginning() -> None:
    """What the tests below rest on."""
    tree = PrefixTree.of([tuple(sample) for sample in FORKED])
    assert (tree.size, sum(map(len, FORKED))) == (14, 34)
    assert [branch.depth for branch in tree.branches] == [0, 2, 3, 4, 2, 3, 0, 1]
    assert [len(branch.before) for branch in tree.branches] == [0, 1, 2, 3, 1, 2, 0, 1]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("samples", [SAMPLES, FORKED], ids=["apart", "forked"])
@pytest.mark.parametrize("kv_heads", [2, 1])
def test_a_pack_is_its_samples_one_by_one(
    kv_heads: int, samples: list[list[int]], share: bool
) -> None:
    model, packing = llama(kv_heads), llama(kv_heads)
    use_packed_attention(packing)
    expected, got = alone(model, samples), packed(packing, samples, share=share)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    pairs = list(zip(gradients(packing, got), gradients(model, expected), strict=True))
    for ours, theirs in pairs:
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10 * float(theirs.abs().max()))
    assert sum(theirs is None for _, theirs in pairs) == 1, "the head alone has no part in it"


@pytest.mark.parametrize("share", [True, False])
def test_the_order_in_the_pack_does_not_matter(share: bool) -> None:
    model = llama()
    use_packed_attention(model)
    torch.testing.assert_close(
        packed(model, FORKED[::-1], share=share),
        torch.cat([packed(model, [sample]) for sample in FORKED[::-1]]),
        rtol=0,
        atol=1e-12,
    )


def moved_by(model: Any, samples: list[list[int]], others: list[list[int]]) -> list[list[float]]:
    """How far each hidden state of each sample is from that in a pack of `others`, which are as
    long.
    """
    with torch.no_grad():
        moved = (packed(model, samples) - packed(model, others)).abs().amax(-1)
    return [part.tolist() for part in torch.split(moved, [len(sample) for sample in samples])]


@pytest.mark.parametrize("changed", range(len(SAMPLES)))
def test_a_samples_tokens_reach_no_other_sample(changed: int) -> None:
    model = llama()
    use_packed_attention(model)
    others = [
        [(token + 1) % 13 for token in s] if i == changed else s for i, s in enumerate(SAMPLES)
    ]
    for i, moved in enumerate(moved_by(model, SAMPLES, others)):
        assert all((value > 1e-3) if i == changed else (value == 0.0) for value in moved), i


@pytest.mark.parametrize(
    ("sample", "place", "into", "reached"),
    [
        # A token after the fork reaches one sample only, there itself and later tokens.
        (2, 3, 6, [2]),
        (5, 4, 7, [5]),
        (8, 3, 12, [8]),
        (7, 1, 5, [7]),
        # A token before a fork reaches all samples after it, and none that forked earlier.
        (4, 2, 7, [4, 8]),
        (0, 3, 10, [0, 5, 6]),
        (0, 2, 4, [0, 2, 5, 6]),
        (0, 1, 4, [0, 2, 3, 4, 5, 6, 8]),
        (1, 0, 8, [1, 7]),
    ],
)
def test_a_token_reaches_the_samples_that_it_belongs_to_and_no_other(
    sample: int, place: int, into: int, reached: list[int]
) -> None:
    model = llama()
    use_packed_attention(model)
    begin = FORKED[sample][: place + 1]
    others = [[*s[:place], into, *s[place + 1 :]] if s[: place + 1] == begin else s for s in FORKED]
    for i, moved in enumerate(moved_by(model, FORKED, others)):
        unmoved = place if i in reached else len(moved)
        assert all(value < 1e-12 for value in moved[:unmoved]), i
        assert all(value > 1e-3 for value in moved[unmoved:]), i


def test_a_token_reaches_later_ones_only() -> None:
    model = llama()
    use_packed_attention(model)
    with torch.no_grad():
        moved = (packed(model, [[1, 2, 3, 4, 5]]) - packed(model, [[1, 2, 9, 4, 5]])).abs().amax(-1)
    assert [bool(value > 0.0) for value in moved] == [False, False, True, True, True]


def test_samples_as_long_as_the_sliding_window_are_taken_and_longer_ones_refused() -> None:
    model, packing = mistral(sliding_window=4), mistral(sliding_window=4)
    use_packed_attention(packing)
    samples = [[1, 2, 3, 4], [5, 6], [7, 8, 9, 1]]
    torch.testing.assert_close(packed(packing, samples), alone(model, samples), rtol=0, atol=1e-10)
    with pytest.raises(
        ValueError, match=r"a sample has 5 tokens, .* reaches back only 4 .*shorten the episodes"
    ):
        packed(packing, [[6, 2], [1, 2, 3, 4, 5]])


def test_the_sliding_window_must_hold_the_whole_path_of_a_branch() -> None:
    model, packing = mistral(sliding_window=4), mistral(sliding_window=4)
    use_packed_attention(packing)
    samples = [[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 5, 7]]
    torch.testing.assert_close(packed(packing, samples), alone(model, samples), rtol=0, atol=1e-10)
    # The branches have 4, 2 and 2 positions; the last one's path has 2 + 1 + 2.
    with pytest.raises(ValueError, match=r"a sample has 5 tokens, .* reaches back only 4 "):
        packed(packing, [[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 5, 7, 8]])


@pytest.mark.parametrize("lengths", [(16,), (15,), (5, 1, 3, 8), (5, 1, 3)])
def test_branches_must_be_those_of_the_pack(lengths: tuple[int, ...]) -> None:
    model = llama()
    use_packed_attention(model)
    ends = list(accumulate(lengths))
    branches = tuple(Branch(begin=begin, end=end) for begin, end in pairwise([0, *ends]))
    if ends[-1] == sum(map(len, SAMPLES)):
        assert packed(model, SAMPLES, branches=branches).shape == (16, 64)
    else:
        with pytest.raises(AssertionError):
            packed(model, SAMPLES, branches=branches)


def test_a_model_without_branches_is_not_attended_to_by_accident() -> None:
    model = llama()
    use_packed_attention(model)
    with pytest.raises(AssertionError, match="takes packs"):
        model.model(input_ids=torch.tensor([[1, 2, 3]]))


ONE_AND_TWO = (Branch(begin=0, end=1), Branch(begin=1, end=3))
THREE = (Branch(begin=0, end=3),)


def attend(**options: Any) -> Tensor:
    q, k, v = (torch.ones(1, 2, 3, 4) for _ in range(3))
    out, _ = packed_attention(
        torch.nn.Identity(), q, k, v, None, **{"branches": ONE_AND_TWO, **options}
    )
    return out


def test_masks_dropout_and_rows_are_refused() -> None:
    assert attend().shape == (1, 3, 2, 4)
    with pytest.raises(AssertionError, match="dropout"):
        attend(dropout=0.1)
    with pytest.raises(AssertionError, match="mask"):
        packed_attention(
            torch.nn.Identity(),
            *(torch.ones(1, 2, 3, 4),) * 3,
            torch.ones(1, 1, 3, 3),
            branches=THREE,
        )
    two = torch.ones(2, 2, 3, 4)
    with pytest.raises(AssertionError):
        packed_attention(torch.nn.Identity(), two, two, two, None, branches=THREE)


@pytest.mark.parametrize("option", ["softcap", "s_aux"])
def test_attention_that_is_not_plain_is_refused(option: str) -> None:
    """Gemma 2 caps its scores, gpt-oss has sinks: left out in silence, the log-probs would be
    another model's.
    """
    assert attend(**{option: None}).shape == (1, 3, 2, 4)
    with pytest.raises(ValueError, match=option):
        attend(**{option: torch.ones(2)})


def test_a_model_with_capped_scores_is_refused() -> None:
    config = Gemma2Config(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=None,
    )
    model = Gemma2ForCausalLM(config).eval()  # type: ignore[no-untyped-call]
    use_packed_attention(model)
    with pytest.raises(ValueError, match="softcap"):
        packed(model, SAMPLES)


def test_a_model_whose_attention_cannot_be_exchanged_is_refused() -> None:
    model = BloomForCausalLM(BloomConfig(vocab_size=32, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(
        ValueError, match=r"model BloomForCausalLM: .*cannot be packed; use a model of another"
    ):
        use_packed_attention(model)


@pytest.mark.parametrize("depth", [0, 30])
def test_short_branches_in_bfloat16_are_rounded_once_on_cpu(depth: int) -> None:
    """Under autocast, as in the learner: queries and keys are in float32, values in bfloat16."""
    torch.manual_seed(3)
    query, key, value = (torch.randn(1, 2, 40 + depth, 16) for _ in range(3))
    branches: tuple[Branch, ...] = (Branch(begin=0, end=40 + depth),)
    if depth:
        rest = Branch(begin=depth, end=depth + 40, before=((0, depth),))
        branches = (Branch(begin=0, end=depth), rest)
    rounded = value.bfloat16().double()
    exact, _ = packed_attention(
        torch.nn.Module(), query.double(), key.double(), rounded, None, branches=branches
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = packed_attention(
            torch.nn.Module(), query, key, value.bfloat16(), None, branches=branches
        )
    assert got.dtype == torch.bfloat16
    # bfloat16 has 8 bits. Rounded inputs and probabilities would be three roundings away.
    torch.testing.assert_close(got.double(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("depth", [0, 30])
def test_long_branches_in_bfloat16_are_filled_up_without_a_trace(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branches of 40 queries are long here, and become 64; with 30 keys before them, 96."""
    monkeypatch.setattr(attention, "_IN_FLOAT32", 20)
    torch.manual_seed(3)
    size = depth + 40
    branches: tuple[Branch, ...] = (Branch(begin=0, end=size),)
    if depth:
        rest = Branch(begin=depth, end=size, before=((0, depth),))
        branches = (Branch(begin=0, end=depth), rest)
    rounded = [torch.randn(1, 2, size, 16).bfloat16() for _ in range(3)]

    def attended(dtype: torch.dtype) -> list[Tensor]:
        """The output, and the gradients of queries, keys and values."""
        q, k, v = (x.clone().to(dtype).requires_grad_() for x in rounded)
        out, _ = packed_attention(torch.nn.Module(), q, k, v, None, branches=branches)
        return [out, *torch.autograd.grad(out.sin().sum(), [q, k, v])]

    for got, exact in zip(attended(torch.bfloat16), attended(torch.float64), strict=True):
        assert got.shape == exact.shape
        torch.testing.assert_close(got.double(), exact, rtol=0, atol=0.03)
