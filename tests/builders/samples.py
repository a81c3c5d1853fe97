"""Training samples for tests that do not play them."""

import random
from dataclasses import replace

from agent_rl.learner.samples import ALONE, TrainingSample

VOCABULARY = 32
"""The number of different tokens of random samples, and of the tiny model's vocabulary."""
TWO_TURNS = TrainingSample(
    token_ids=(1, 17, 4, 21, 2, 9, 4, 22, 23, 2),
    action_mask=(False, False, False, True, True, False, False, True, True, True),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.1, -0.2, 0.0, 0.0, -0.3, -0.4, -0.5),
    advantages=(0.5, -0.25),
)
"""The worked example of `rollouts.types`: two turns, end token 2."""
BRIEF = TrainingSample(
    token_ids=(1, 17, 4, 21, 2),
    action_mask=(False, False, False, True, True),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.6, -0.7),
    advantages=(2.0,),
)
"""The prompt 1 17 4 and the first turn of `TWO_TURNS`, sampled with other log-probs."""
OTHER = replace(
    BRIEF,
    token_ids=(1, 17, 4, 22, 2),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.8, -0.9),
    advantages=(3.0,),
)
"""The same prompt and another turn."""


def sample(
    length: int, advantage: float = 1.0, episode: int = ALONE, *, first: int = 0
) -> TrainingSample:
    """Return one turn: the context token `first`, then `length` agent tokens `first + 1`, ...

    It has `length` positions. Of two with the same `first`, the shorter is the other's beginning.
    """
    return TrainingSample(
        token_ids=tuple(range(first, first + length + 1)),
        action_mask=(False, *(True for _ in range(length))),
        behavior_logprobs=(0.0,) * (length + 1),
        advantages=(advantage,),
        episode=episode,
    )


def silent(episode: int = ALONE) -> TrainingSample:
    """Return two tokens without an agent token."""
    return TrainingSample(
        token_ids=(1, 2),
        action_mask=(False, False),
        behavior_logprobs=(0.0, 0.0),
        advantages=(),
        episode=episode,
    )


def make_samples(count: int, seed: int = 0, *, parts: int = 1) -> list[TrainingSample]:
    """Return random episodes of one to four turns; every third has advantage 0.

    Args:
        count: the number of episodes.
        seed: of tokens, lengths and numbers.
        parts: the samples of each episode; all have its advantage.
    """
    rng = random.Random(seed)
    samples = []
    for i in range(count):
        mask: list[bool] = []
        turns = rng.randint(1, 4)
        for _ in range(turns):
            mask += [False] * rng.randint(1, 4) + [True] * rng.randint(1, 3)
        samples.append(
            TrainingSample(
                token_ids=tuple(rng.randrange(VOCABULARY) for _ in mask),
                action_mask=tuple(mask),
                behavior_logprobs=tuple(-4.0 * rng.random() if bit else 0.0 for bit in mask),
                advantages=(0.0 if i % 3 == 2 else rng.choice([-1.0, 1.0]) * (0.5 + rng.random()),)
                * turns,
                # Of three ages in all; in an odd episode only the first token is old.
                staleness=((i % 3, 0), (0, 1)) if i % 2 and sum(mask) > 1 else ((i % 3, 0),),
            )
        )
    if parts == 1:
        return samples
    cut = []
    for number, first in enumerate(samples):
        others = make_samples(parts - 1, seed=1000 + number)
        cut += [
            replace(part, episode=number, advantages=first.advantages[:1] * part.turns)
            for part in (first, *others)
        ]
    return cut


def grouped_samples() -> list[TrainingSample]:
    """Return three groups of four episodes, shuffled.

    The episodes of a group have a prompt of 5 tokens in common. With the agent's tokens in brackets
    and different letters for different tokens they are

        prompt [aaa] oo [bb]      prompt [aaa] oo [ccc]      prompt [ddd] oo [ee]      prompt [aaa]
    """
    rng = random.Random(0)

    def tokens(count: int, first: int) -> tuple[int, ...]:
        """Return random tokens after `first`."""
        return (first, *(rng.randrange(32) for _ in range(count - 1)))

    samples = []
    for group in range(3):
        prompt, turn, seen = tokens(5, group), tokens(3, 10), tokens(2, 11)
        for ids, runs in [
            (prompt + turn + seen + tokens(2, 12), (5, 3, 2, 2)),
            (prompt + turn + seen + tokens(3, 13), (5, 3, 2, 3)),
            (prompt + tokens(3, 14) + seen + tokens(2, 15), (5, 3, 2, 2)),
            (prompt + turn, (5, 3)),
        ]:
            mask = tuple(bool(k % 2) for k, run in enumerate(runs) for _ in range(run))
            samples.append(
                TrainingSample(
                    token_ids=ids,
                    action_mask=mask,
                    behavior_logprobs=tuple(-4.0 * rng.random() if bit else 0.0 for bit in mask),
                    advantages=(rng.choice([-1.0, 1.0]) * (0.5 + rng.random()),) * (len(runs) // 2),
                )
            )
    rng.shuffle(samples)
    return samples
