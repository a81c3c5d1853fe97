"""How well the engines and the workers' places are used."""

from dataclasses import dataclass, field

from rollouts.serving.statistics import EngineStatistics


@dataclass(frozen=True, kw_only=True)
class PlaceSeconds:
    """How the places of the workers were used since the start, in seconds of wall time."""

    total: float = 0.0
    """All time, times the number of places."""
    played: float = 0.0
    """The time in which a place had an episode, summed over places."""
    slowest: float = 0.0
    """The time in which no episode was left to begin, and some place was free but not all. It is
    not multiplied by places."""

    def __sub__(self, other: "PlaceSeconds") -> "PlaceSeconds":
        """Return what was added since `other`, an earlier value."""
        return PlaceSeconds(
            total=self.total - other.total,
            played=self.played - other.played,
            slowest=self.slowest - other.slowest,
        )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Totals since the start of a pool. The difference of two is what lay between them."""

    engines: EngineStatistics = field(default_factory=EngineStatistics)
    """The sums over the engines; zeros without one."""
    places: PlaceSeconds = field(default_factory=PlaceSeconds)
    """Of the workers."""

    def __sub__(self, other: "Usage") -> "Usage":
        """Return what was added since `other`, an earlier value."""
        return Usage(engines=self.engines - other.engines, places=self.places - other.places)

    def metrics(self) -> dict[str, float]:
        """Return shares and rates, for a period between two totals.

        Those of a part that did nothing, or that there is not, are 0.
        """
        engines, places = self.engines, self.places
        return {
            "idle_share": 1.0 - _share(engines.busy_seconds, engines.seconds, nothing=1.0),
            "sampled_tokens_per_second": _share(engines.sampled_tokens, engines.seconds),
            "prefix_cache_hits": _share(engines.cached_tokens, engines.prompt_tokens),
            "queue_seconds": _share(engines.queue_seconds, engines.requests),
            "preemptions": float(engines.preemptions),
            "places_used": _share(places.played, places.total),
        }


def _share(part: float, whole: float, *, nothing: float = 0.0) -> float:
    return part / whole if whole else nothing
