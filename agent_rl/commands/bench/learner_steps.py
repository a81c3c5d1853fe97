"""The four implementations of an optimizer step that `agent-rl bench learner` compares."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW
from transformers import PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.samples import TrainingSample
from agent_rl.policy.loading import decoder_and_head

Step = Callable[[], object]
"""Takes one optimizer step."""
MakeStep = Callable[[PreTrainedModel, Sequence[TrainingSample], LearnerSettings], Step]
"""Prepares an implementation for a model, the episodes and the settings."""


def learner_step(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    """`Learner.update`: packed samples, shared prefixes, logits of the agent's tokens only."""
    learner = Learner(model, settings, LearnerContext(total_steps=1))
    return lambda: learner.update(samples)


def unshared_step(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    """`Learner.update` without prefix sharing."""
    return learner_step(model, samples, settings.model_copy(update={"share_prefixes": False}))


def bare_step(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    """The model alone, forward and backward, on dense rows of random tokens.

    It computes as many logits as there are agent's tokens. The length of the rows is the length of
    the episode in which a token is on average, so that attention has as much work as in the
    episodes: for episodes of 10 and 30 tokens it is (10 * 10 + 30 * 30) / 40 = 25.
    """
    device = _prepared(model)
    tokens = sum(len(sample.inputs) for sample in samples)
    length = round(sum(len(sample.inputs) ** 2 for sample in samples) / tokens)
    rows = max(settings.micro_batch_tokens // length, 1)
    decoder, head = decoder_and_head(model)
    agent_share = sum(sample.agent_tokens for sample in samples) / tokens
    optimizer = AdamW(model.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(0)
    vocabulary = int(model.config.vocab_size)

    def step() -> None:
        left = tokens
        while left > 0:
            count = min(rows, -(-left // length))
            left -= count * length
            ids_BT = torch.randint(vocabulary, (count, length), generator=generator).to(device)
            with _autocast(device, settings):
                hidden_BTH = decoder(input_ids=ids_BT, use_cache=False).last_hidden_state
            agents = round(agent_share * ids_BT.numel())
            logits_NV = head(hidden_BTH.flatten(0, 1)[:agents].to(head.weight.dtype))
            loss = nn.functional.cross_entropy(logits_NV.float(), ids_BT.flatten()[:agents])
            loss.backward()  # type: ignore[no-untyped-call]
        _finish(model, optimizer)

    return step


def padded_step(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    """A plain learner: rows padded to the longest episode, an attention mask, all logits, GMPO."""
    device = _prepared(model)
    optimizer = AdamW(model.parameters(), lr=settings.learning_rate)
    longest = max(len(sample.token_ids) for sample in samples)
    rows = max(settings.micro_batch_tokens // longest, 1)

    def step() -> None:
        for begin in range(0, len(samples), rows):
            chunk = samples[begin : begin + rows]
            loss = _padded_loss(model, chunk, device, settings) / len(samples)
            loss.backward()  # type: ignore[no-untyped-call]
        _finish(model, optimizer)

    return step


WAYS: dict[str, MakeStep] = {
    "learner": learner_step,
    "unshared": unshared_step,
    "bare": bare_step,
    "padded": padded_step,
}
"""The implementations by name, in the order of the table."""


def _padded_loss(
    model: PreTrainedModel,
    samples: Sequence[TrainingSample],
    device: torch.device,
    settings: LearnerSettings,
) -> Tensor:
    """The sum of the episodes' GMPO losses, with bounds of 0.4 on the log-ratios."""
    ids_BT = _pad([torch.tensor(sample.token_ids) for sample in samples]).to(device)
    lengths = [len(sample.token_ids) for sample in samples]
    real_BT = _pad([torch.ones(length, dtype=torch.long) for length in lengths]).to(device)
    mask_BT = _pad([torch.tensor(sample.action_mask) for sample in samples])[:, 1:].to(device)
    old_BT = _pad([torch.tensor(sample.behavior_logprobs) for sample in samples])[:, 1:].to(device)
    advantage_B = torch.tensor([sample.advantages[0] for sample in samples], device=device)
    with _autocast(device, settings):
        output = model(input_ids=ids_BT, attention_mask=real_BT, use_cache=False)
        logits_BTV = output.logits[:, :-1]
    new_BT = logits_BTV.float().log_softmax(-1).gather(-1, ids_BT[:, 1:, None]).squeeze(-1)
    ratio_BT = new_BT - old_BT
    # The clip is one-sided, against the advantage's sign.
    clipped_BT = torch.where(
        advantage_B[:, None] > 0, ratio_BT.clamp(max=0.4), ratio_BT.clamp(min=-0.4)
    )
    weight_B = ((clipped_BT * mask_BT).sum(1) / mask_BT.sum(1)).exp()
    return -(advantage_B * weight_B).sum()


def _autocast(device: torch.device, settings: LearnerSettings) -> torch.autocast:
    enabled = settings.dtype == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _prepared(model: PreTrainedModel) -> torch.device:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()  # type: ignore[arg-type]
    model.set_attn_implementation("sdpa")
    return device


def _finish(model: PreTrainedModel, optimizer: AdamW) -> None:
    float(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
    optimizer.step()
    optimizer.zero_grad()


def _pad(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)
