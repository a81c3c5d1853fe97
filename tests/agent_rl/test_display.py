from agent_rl.display import interval, percent, points, points_interval


def test_fractions_in_percent() -> None:
    assert percent(0.625) == "62.5"
    assert percent(2 / 3, 0) == "67"
    assert interval((0.5, 0.75)) == "50.0-75.0"
    assert interval((0.493, 0.626), digits=0, between=" - ") == "49 - 63"


def test_differences_in_points() -> None:
    assert points(0.05) == "+5.0"
    assert points(-0.017) == "-1.7"
    assert points_interval((-0.055, 0.021)) == "-5.5 to +2.1"
