from rollouts.seeds import derive_seed


def test_seeds_are_the_same_everywhere() -> None:
    assert derive_seed(1, "train", "number-3", 0) == 1870584067
    assert 0 <= derive_seed(2**40, "x") < 2**31


def test_seeds_differ_by_every_part() -> None:
    parts = [(s, t, m) for s in range(5) for t in ("a", "b", "ab") for m in range(20)]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
