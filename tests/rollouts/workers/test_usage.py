from rollouts.serving.statistics import EngineStatistics
from rollouts.workers.usage import PlaceSeconds, Usage


def test_a_period_by_hand() -> None:
    before = Usage(
        engines=EngineStatistics(seconds=10.0, busy_seconds=5.0, sampled_tokens=100),
        places=PlaceSeconds(total=80.0, played=40.0, slowest=1.0),
    )
    after = Usage(
        engines=EngineStatistics(
            seconds=20.0,
            busy_seconds=13.0,
            sampled_tokens=300,
            prompt_tokens=400,
            cached_tokens=300,
            requests=10,
            queue_seconds=5.0,
            preemptions=2,
        ),
        places=PlaceSeconds(total=160.0, played=100.0, slowest=3.0),
    )
    period = after - before
    assert period.places == PlaceSeconds(total=80.0, played=60.0, slowest=2.0)
    assert period.metrics() == {
        "idle_share": 1.0 - 8.0 / 10.0,
        "sampled_tokens_per_second": 20.0,
        "prefix_cache_hits": 0.75,
        "queue_seconds": 0.5,
        "preemptions": 2.0,
        "places_used": 0.75,
    }


def test_without_an_engine_nothing_is_divided_by_zero() -> None:
    assert set(Usage().metrics().values()) == {0.0}
