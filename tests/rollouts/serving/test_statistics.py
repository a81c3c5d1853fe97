from rollouts.serving.statistics import EngineStatistics


def test_the_difference_of_two_totals_is_the_time_between() -> None:
    before = EngineStatistics(seconds=10.0, busy_seconds=4.0, steps=7, requests=2)
    after = EngineStatistics(seconds=15.0, busy_seconds=8.5, steps=19, requests=2, preemptions=1)
    period = after - before
    assert period == EngineStatistics(seconds=5.0, busy_seconds=4.5, steps=12, preemptions=1)
    assert before + period == after
