"""The turns of recorded episodes as requests to a policy, for those who play them again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rollouts import Trajectory
from rollouts.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """What the policy was asked for in a turn, and how much it sampled."""

    prompt: tuple[int, ...]
    """All ids before the action."""
    tokens: int
    """The ids that it sampled."""
    seed: int
    """The seed of the sampling."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The work of one way, and its time."""

    tokens: int
    """The ids that were sampled."""
    seconds: float
    """Wall time."""
    prompt_tokens: int = 0
    """The ids of all prompts."""
    cached_tokens: int = 0
    """Those whose keys and values were in the prefix cache."""
    steps: int = 0
    """Steps of the engine; each samples at most one id of each request."""
    share: float = 1.0
    """The share of the turns that were played; below 1 for a sample."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """The episodes to play again."""

    episodes: list[Trajectory]
    """Episodes that the policy played."""
    places: int
    """How many go on at once."""
    temperature: float
    """Of the sampling."""
    seed: int
    """The seeds of the turns are derived from it."""

    def parts(self, count: int) -> "list[Load]":
        """Deal the episodes and the places to at most `count` engines, neighbours together."""
        count = min(count, self.places, len(self.episodes))
        parts = []
        for n in range(count):
            begin, end = (len(self.episodes) * i // count for i in (n, n + 1))
            part = Load(
                episodes=self.episodes[begin:end],
                places=self.places // count + (n < self.places % count),
                temperature=self.temperature,
                seed=derive_seed(self.seed, n),
            )
            parts.append(part)
        return parts


def turn_requests(episode: Trajectory, seed: int) -> list[TurnRequest]:
    """Return the requests of an episode's turns, each with a seed of its own."""
    requests = []
    ids: list[int] = []
    for number, turn in enumerate(episode.turns):
        if turn.new_prompt:
            ids = []
        ids += turn.prompt_token_ids
        tokens = len(turn.completion.token_ids)
        drawn = derive_seed(seed, number)
        requests.append(TurnRequest(prompt=tuple(ids), tokens=tokens, seed=drawn))
        ids += turn.completion.token_ids
    return requests


def rounds(episodes: Sequence[Trajectory], places: int) -> Iterator[tuple[int, list[Trajectory]]]:
    """Yield each turn of each batch of `places` episodes: its number, and who plays it."""
    for begin in range(0, len(episodes), places):
        batch = episodes[begin : begin + places]
        for turn in range(max(len(episode.turns) for episode in batch)):
            yield turn, [episode for episode in batch if turn < len(episode.turns)]
