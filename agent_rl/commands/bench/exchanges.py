"""Exchanges a name in all that a policy has read, to see whether its action follows.

    it read    ... you see a drawer 2, and a drawer 1. ... > and said    go to drawer 2
    it reads   ... you see a drawer 3, and a drawer 1. ... > and says    go to drawer 3: it reads
                                                                         go to drawer 2: by heart

The tokens of the prompt are those that the policy read, and only those around the name change.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from envs.text_env import NamedObject, ReadObject
from rollouts import FinishReason, Trajectory

Outcome = Literal["follows", "keeps", "other"]
"""The new action has the other name, still the old one, or neither."""


@dataclass(frozen=True, kw_only=True)
class NameExchange:
    """A turn's prompt in which the object that the policy went for has another name."""

    turn: int
    """The index of the turn in the episode."""
    said: str
    """The policy's command to the prompt as it was."""
    named: NamedObject
    """The object that it named, with its other name."""
    prompt: tuple[int, ...]
    """The ids of the whole prompt, with the other name in the place of the name."""

    def outcome(self, said: str) -> Outcome:
        """Judge the command to the changed prompt."""
        if _whole(self.named.other_name).search(said):
            return "follows"
        return "keeps" if _whole(self.named.name).search(said) else "other"


def exchanges_of(
    episode: Trajectory, read: ReadObject, tokenizer: Any, rng: random.Random
) -> list[NameExchange]:
    """Exchange the name of furniture in one turn of an episode, and that of a thing in another.

    The turn is drawn from those whose command names an object that the prompt tells of. If no turn
    has such a command, the exchange is left out.

    Args:
        episode: the policy's, played greedily.
        read: the reader of its environment.
        tokenizer: the policy's.
        rng: draws the turns.
    """
    found: dict[bool, list[NameExchange]] = {True: [], False: []}
    for exchange in _all_exchanges(episode, read, tokenizer):
        found[exchange.named.is_furniture].append(exchange)
    return [rng.choice(of_kind) for of_kind in found.values() if of_kind]


def _all_exchanges(episode: Trajectory, read: ReadObject, tokenizer: Any) -> Iterator[NameExchange]:
    texts: list[str] = []
    asked = 0
    for index, turn in enumerate(episode.turns):
        # A thought that was cut off is the beginning of the answer with the action after it.
        if index == 0 or episode.turns[index - 1].kind != "thought":
            asked = index
        if turn.kind != "action":
            continue
        texts.append(turn.observation)
        named = read(turn.action.said, texts)
        if named is None or not named.is_known or not named.other_name:
            continue
        prompt = exchanged_prompt(prompt_segments(episode, asked), named, tokenizer)
        if prompt is not None:
            yield NameExchange(turn=index, said=turn.action.said, named=named, prompt=prompt)


def prompt_segments(episode: Trajectory, turn: int) -> list[tuple[int, ...]]:
    """The ids that the policy had read at a turn, in the pieces that they were encoded in."""
    segments: list[tuple[int, ...]] = []
    for before in episode.turns[:turn]:
        if before.new_prompt:
            segments = []
        segments.append(before.prompt_token_ids)
        # The end token by itself: it is no text, and stays.
        answer, ended = before.completion.token_ids, before.completion.finish_reason
        segments += [answer[:-1], answer[-1:]] if ended is FinishReason.STOP else [answer]
    asked = episode.turns[turn]
    return [*([] if asked.new_prompt else segments), asked.prompt_token_ids]


def exchanged_prompt(
    segments: Sequence[tuple[int, ...]], named: NamedObject, tokenizer: Any
) -> tuple[int, ...] | None:
    """All ids of a prompt, with the other name wherever the name stood.

    None if the name stands nowhere, or if the tokenizer does not give the ids of a segment back
    from its text: then more than the name would change.
    """
    name = _whole(named.name)
    ids: list[int] = []
    changed = False
    for segment in segments:
        text = tokenizer.decode(
            list(segment), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if not name.search(text):
            ids += segment
            continue
        if tuple(tokenizer.encode(text, add_special_tokens=False)) != tuple(segment):
            return None
        ids += tokenizer.encode(name.sub(named.other_name, text), add_special_tokens=False)
        changed = True
    return tuple(ids) if changed else None


def _whole(name: str) -> re.Pattern[str]:
    """Finds a name, and not the beginning of a longer one: "mug 1" is not in "mug 12"."""
    return re.compile(rf"\b{re.escape(name)}\b")
