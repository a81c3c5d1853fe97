"""The figures of a rollout: how full its places were, and where its time went."""

from collections.abc import Sequence
from dataclasses import dataclass

from rollouts import Trajectory


@dataclass(frozen=True, kw_only=True)
class RolloutFigures:
    """A rollout's speed, and the time of its places. A place plays one episode at a time.

    The shares `engine`, `transport`, `environment`, `worker` and `waiting` are of the time of all
    places, which is the wall time times their number. They sum to one.
    """

    episodes: int
    """The episodes."""
    tokens: int
    """The ids that the policy sampled."""
    seconds: float
    """Wall time."""
    engine: float
    """The engine worked on an episode's request."""
    transport: float
    """The rest of the wait for the policy: messages, the engine's queue, and the worker's thread,
    which may be busy with another episode when the answer comes."""
    environment: float
    """An episode's environment worked."""
    worker: float
    """The rest of an episode: tokenizer, starting it and ending it."""
    waiting: float
    """No episode was left for the place, and the slowest ones went on."""
    tail: float
    """The share of the wall time in which some place was free and no episode was left."""
    cache_hits: float
    """The share of the prompts' ids that the engines had in their prefix caches."""

    @property
    def tokens_per_second(self) -> float:
        """Sampled ids a second."""
        return self.tokens / self.seconds

    @property
    def busy(self) -> float:
        """The mean number of episodes that play, over the places."""
        return 1.0 - self.waiting

    @property
    def policy(self) -> float:
        """The share of the places' time that is spent waiting for the policy."""
        return self.engine + self.transport


def figures_of(
    episodes: Sequence[Trajectory],
    ends: Sequence[float],
    *,
    places: int,
    seconds: float,
    cache_hits: float,
) -> RolloutFigures:
    """Work out the figures of a rollout.

    Args:
        episodes: all of its episodes.
        ends: when each ended, in seconds since the beginning.
        places: the episodes that play at once.
        seconds: the wall time of the rollout.
        cache_hits: the share of the prompts' ids that were in the prefix caches.
    """
    turns = [turn for episode in episodes for turn in episode.turns]
    whole = places * seconds
    engine = sum(turn.completion.seconds for turn in turns) / whole
    policy = sum(episode.policy_seconds for episode in episodes) / whole
    environment = sum(episode.env_seconds for episode in episodes) / whole
    waiting = 1.0 - busy_seconds(ends, places) / whole
    return RolloutFigures(
        episodes=len(episodes),
        tokens=sum(len(turn.completion.token_ids) for turn in turns),
        seconds=seconds,
        engine=engine,
        transport=policy - engine,
        environment=environment,
        worker=1.0 - policy - environment - waiting,
        waiting=waiting,
        tail=(seconds - first_free(ends, places)) / seconds,
        cache_hits=cache_hits,
    )


def busy_seconds(ends: Sequence[float], places: int) -> float:
    """Return the time of all places in which they play.

    An episode takes a place as soon as one is free. So all places play until as many episodes have
    ended as had to wait for one. Then the `places` last ones end, one after the other. For example,
    on 2 places the ends 1, 2, 4 are 2 x 2 seconds of both places and 2 of one: 6.
    """
    full = first_free(ends, places)
    return places * full + sum(end - full for end in sorted(ends) if end > full)


def first_free(ends: Sequence[float], places: int) -> float:
    """Return when a place is first free for want of an episode: 0 if there are too few of them."""
    waiting = len(ends) - places
    return sorted(ends)[waiting] if waiting >= 0 else 0.0
