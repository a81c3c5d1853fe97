"""What an engine has done since it started, as plain numbers."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class EngineStatistics:
    """Totals since the engine's start. The difference of two is what lay between them.

    Tokens, preemptions and the number of requests are counted when a request ends with an answer.
    """

    seconds: float = 0.0
    """Wall time since the start."""
    busy_seconds: float = 0.0
    """Wall time in the engine's steps."""
    reload_seconds: float = 0.0
    """Wall time in which new weights were loaded."""
    queue_seconds: float = 0.0
    """Waits for one of the engine's places, summed over the requests that got one."""
    steps: int = 0
    """Steps of the engine; each samples at most one token for each running request."""
    reloads: int = 0
    """Times that new weights were loaded."""
    requests: int = 0
    """Requests answered."""
    sampled_tokens: int = 0
    """Token ids sampled, end tokens included."""
    prompt_tokens: int = 0
    """Token ids of the prompts."""
    cached_tokens: int = 0
    """Token ids of prompts whose keys and values were in the prefix cache."""
    preemptions: int = 0
    """Times that a running request gave its place up because the KV cache was full. It is
    prefilled anew later. Those that new weights caused are not counted."""

    def __add__(self, other: "EngineStatistics") -> "EngineStatistics":
        """Return the sum of each number."""
        return self._combined(other, 1)

    def __sub__(self, other: "EngineStatistics") -> "EngineStatistics":
        """Return what was added since `other`, an earlier value of the same engine."""
        return self._combined(other, -1)

    def _combined(self, other: "EngineStatistics", sign: int) -> "EngineStatistics":
        return EngineStatistics(
            **{f.name: getattr(self, f.name) + sign * getattr(other, f.name) for f in fields(self)}
        )
