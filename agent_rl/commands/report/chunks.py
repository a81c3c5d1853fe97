"""Episodes packed for the page: compressed texts that the browser opens when they are looked at.

A chunk is JSON, `{"texts": [...], "episodes": [...]}`. Texts that occur often, such as the first
observation of a group, are in it once. An episode names them by their index.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from agent_rl.display import visible
from envs.alfworld.room import RoomStory
from rollouts import Trajectory, Turn

NATS = 1e-4
"""Log-probs are stored as whole numbers of this unit."""


def packed(value: Any) -> str:
    """JSON, compressed (zlib) and written in base64."""
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
        self,
        episode: Trajectory,
        advantages: Sequence[float] | None,
        room: RoomStory | None,
        records: Sequence[Mapping[str, Sequence[float]]],
    ) -> None:
        """Add an episode.

        Args:
            episode: the episode.
            advantages: one for each turn; None if it did not train.
            room: its way through the room; None if its environment has none.
            records: for each turn, further numbers of its tokens by name; empty if there are none.
        """
        turns = []
        for number, turn in enumerate(episode.turns):
            advantage = None if advantages is None else _short(advantages[number])
            turns.append(self._turn(turn, advantage, records[number] if records else {}))
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

    def _turn(
        self, turn: Turn, advantage: float | None, records: Mapping[str, Sequence[float]]
    ) -> dict[str, Any]:
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
        if advantage is not None:
            record["a"] = advantage
        if records:
            record["t"] = {name: [_short(v) for v in values] for name, values in records.items()}
        return record


def _short(value: float) -> float:
    """The value in four digits."""
    return float(f"{value:.4g}")
