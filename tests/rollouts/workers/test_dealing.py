from rollouts.workers.dealing import Schedule


def test_a_group_stays_with_its_worker() -> None:
    schedule = Schedule([["a0", "a1"], ["b0", "b1"], ["c0", "c1"]], workers=2)
    assert [schedule.next(w) for w in (0, 1, 0, 1, 1, 1)] == ["a0", "b0", "a1", "b1", "c0", "c1"]
    assert schedule.next(0) is None
    assert schedule.next(1) is None


def test_an_idle_worker_takes_from_the_longest_queue() -> None:
    schedule = Schedule([["a0", "a1"], ["b0", "b1", "b2", "b3"]], workers=3)
    assert [schedule.next(0), schedule.next(1)] == ["a0", "b0"]
    assert [schedule.next(2), schedule.next(2), schedule.next(0), schedule.next(0)] == [
        "b1",
        "b2",
        "a1",
        "b3",
    ]
    assert schedule.next(1) is None


def test_what_a_worker_could_not_do_is_its_next() -> None:
    schedule = Schedule([["a0", "a1", "a2"], ["b0"]], workers=2)
    assert [schedule.next(0), schedule.next(0), schedule.next(1)] == ["a0", "a1", "b0"]
    schedule.put_back(0, ["a0", "a1"])
    assert [schedule.next(0), schedule.next(0), schedule.next(1), schedule.next(1)] == [
        "a0",
        "a1",
        "a2",
        None,
    ]


def test_every_job_is_dealt_once() -> None:
    groups = [[(g, m) for m in range(g % 4)] for g in range(9)]
    schedule = Schedule(groups, workers=4)
    dealt: list[tuple[int, int]] = []
    while (job := schedule.next(len(dealt) % 3)) is not None:
        dealt.append(job)
    assert sorted(dealt) == sorted(job for group in groups for job in group)
