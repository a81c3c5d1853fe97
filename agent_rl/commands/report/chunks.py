"""Episodes packed for the page: compressed texts that the browser opens when they are looked at.

A chunk is JSON, `{"texts": [...], "episodes": [...]}`. Texts that occur often, such as the first
observation of a group, are in it once. An episode names them by their index. The keys of its turns
are short, as there are many of them; those from `unread` on are written where they say something:

    o x           texts: observation, answer
    p i l         prompt ids, answer ids, log-probs of the answer (in units of `NATS`)
    v             [version, first token] for each version of the weights that sampled it
    unread c      no command could be read from the answer; command, if not the whole answer
    refused r f   the command was refused; reward; finish reason other than `stop`
    n k           a whole new prompt; kind other than `action`
    a g t         advantage; it went through the learner; numbers of its tokens
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent_rl.display import visible
from agent_rl.runs.token_records import Numbers
from envs.alfworld.room import RoomStory
from rollouts import Trajectory, Turn

NATS = 1e-4
"""Log-probs are stored as whole numbers of this unit."""

_FORMS = {
    "ratio": ".4f",
    "weight": ".4f",
    "entropy": ".4f",
    "mismatch": ".3g",
    "kl": ".3g",
    "share": ".3g",
    "clipped": "d",
    "left_out": "d",
    "capped": "d",
    "staleness": "d",
}
"""The numbers of each token in the page, and how exactly: at least as `agent-rl explain`."""


@dataclass(frozen=True, kw_only=True)
class TurnTraining:
    """What training made of a turn."""

    advantage: float | None = None
    """Its advantage; None if its episode was not compared with others."""
    trained: bool = False
    """Whether its tokens went through the learner."""
    tokens: Numbers | None = None
    """Numbers of its tokens, each column of shape [tokens] (`agent_rl.runs.token_records`); None if
    the run kept none."""


def packed(value: Any) -> str:
    """JSON, compressed (zlib) and written in base64.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(text: str) -> Any:
    """The reverse of `packed`; the page does the same in JavaScript."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


class Chunk:
    """Collects some episodes."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._episodes)

    def add(
        self, episode: Trajectory, room: RoomStory | None, training: Sequence[TurnTraining] = ()
    ) -> None:
        """Add an episode.

        Args:
            episode: the episode.
            room: its way through the room; None if its environment has none.
            training: what was made of each turn; empty for an episode that was not played to train.
        """
        turns = []
        for number, turn in enumerate(episode.turns):
            turns.append(self._turn(turn, training[number] if training else TurnTraining()))
        record: dict[str, Any] = {
            "last": self._text(episode.final_observation),
            "error": self._text(episode.error),
            "turns": turns,
        }
        if room is not None:
            record["room"] = {
                "places": [self._text(place) for place in room.places],
                "turns": [
                    [self._text(text) for text in (turn.place, turn.held, turn.opened, turn.did)]
                    for turn in room.turns
                ],
            }
        self._episodes.append(record)

    def packed(self) -> str:
        """The chunk as the page holds it."""
        return packed({"texts": list(self._texts), "episodes": self._episodes})

    def _text(self, text: str) -> int:
        """The index of a text, in which control characters are spelled out."""
        return self._texts.setdefault(visible(text), len(self._texts))

    def _turn(self, turn: Turn, training: TurnTraining) -> dict[str, Any]:
        completion = turn.completion
        record: dict[str, Any] = {
            "o": self._text(turn.observation),
            "p": turn.prompt_token_ids,
            "i": completion.token_ids,
            "l": [round(logprob / NATS) for logprob in completion.logprobs],
            "x": self._text(turn.action.text),
            "v": completion.versions,
        }
        # Marks that most turns do not have are written where they say something.
        if turn.action.command is None:
            record["unread"] = 1
        elif turn.action.command != turn.action.text:
            record["c"] = self._text(turn.action.command)
        if not turn.admissible:
            record["refused"] = 1
        if turn.reward:
            record["r"] = _short(turn.reward)
        if completion.finish_reason.value != "stop":
            record["f"] = completion.finish_reason.value
        if turn.new_prompt:
            record["n"] = 1
        if turn.kind != "action":
            record["k"] = turn.kind
        if training.advantage is not None:
            record["a"] = _short(training.advantage)
        if training.trained:
            record["g"] = 1
        if training.tokens is not None:
            record["t"] = _of_tokens(training.tokens)
        return record


def _of_tokens(numbers: Numbers) -> dict[str, Any]:
    """The numbers of a turn's tokens, by name.

    A number that all tokens share stands alone; one that is 0 for all of them is left out.
    """
    columns = {**numbers, "ratio": np.exp(numbers["log_ratio"].astype(np.float64))}
    record: dict[str, Any] = {}
    for name, form in _FORMS.items():
        values = list(_rounded(columns[name].tolist(), form))
        if len(set(values)) > 1:
            record[name] = values
        elif values and values[0] != 0:
            record[name] = values[0]
    return record


def _rounded(values: Iterable[float], form: str) -> Iterable[float | None]:
    """The values as they are written in a form; None for one that is not finite."""
    for value in values:
        if form == "d":
            yield int(value)
        else:
            yield float(format(value, form)) if math.isfinite(value) else None


def _short(value: float) -> float:
    """The value in four digits."""
    return float(f"{value:.4g}")
