from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from rollouts.workers.dealing import Schedule

JobT = TypeVar("JobT")


def schedule_of(groups: Sequence[Sequence[JobT]], *, workers: int, places: int) -> Schedule[JobT]:
    schedule = Schedule[JobT](workers=workers, places=places)
    for group in groups:
        schedule.add(group)
    return schedule


def sizes(workers: int, places: int, groups: int, size: int) -> list[int]:
    """How many jobs each worker has at the start."""
    jobs = [[(group, member) for member in range(size)] for group in range(groups)]
    schedule = schedule_of(jobs, workers=workers, places=places)
    dealt = Counter(worker for worker, _ in schedule.deal())
    return [dealt[worker] for worker in range(workers)]


def test_all_places_are_taken_at_the_start() -> None:
    assert sizes(16, 8, groups=16, size=8) == [8] * 16
    assert sizes(64, 16, groups=128, size=8) == [16] * 64
    assert sizes(16, 8, groups=140, size=1) == [8] * 16
    assert sizes(2, 2, groups=2, size=2) == [2, 2]
    assert sizes(2, 8, groups=2, size=8) == [8, 8]
    assert sizes(2, 24, groups=8, size=8) == [24, 24]


def test_few_jobs_are_spread_over_all_processes() -> None:
    assert sizes(4, 8, groups=4, size=3) == [3] * 4
    assert sizes(4, 8, groups=1, size=8) == [2] * 4


def test_a_group_stays_with_its_worker() -> None:
    schedule = schedule_of([["a0", "a1"], ["b0", "b1"], ["c0", "c1"]], workers=2, places=1)
    assert schedule.deal() == [(0, "a0"), (1, "b0")]
    schedule.end(1)
    assert schedule.deal() == [(1, "b1")]
    schedule.end(1)
    assert schedule.deal() == [(1, "c0")]
    schedule.end(0)
    assert schedule.deal() == [(0, "a1")]
    schedule.end(0)
    assert schedule.deal() == [(0, "c1")], "no group is left, so it takes from the other's"
    schedule.end(0)
    assert schedule.deal() == []


def test_what_a_worker_could_not_do_is_its_next() -> None:
    schedule = schedule_of([["a0", "a1", "a2"], ["b0"]], workers=2, places=2)
    assert schedule.deal() == [(0, "a0"), (1, "b0"), (0, "a1"), (1, "a2")]
    schedule.put_back(0, ["a0", "a1"])
    schedule.end(0)
    schedule.end(0)
    assert schedule.deal() == [(0, "a0"), (0, "a1")]


def test_urgent_groups_come_next_and_those_that_have_begun_go_on() -> None:
    schedule = schedule_of([["a0", "a1"], ["b0"]], workers=1, places=1)
    assert schedule.deal() == [(0, "a0")]
    schedule.add(["u0", "u1"], urgent=True)
    schedule.add(["c0"])
    order = []
    while schedule.waiting:
        schedule.end(0)
        order += [job for _, job in schedule.deal()]
    assert order == ["a1", "u0", "u1", "b0", "c0"]


def test_a_worker_that_is_being_replaced_gets_no_jobs_and_others_take_its_own() -> None:
    schedule = schedule_of([["a0", "a1"], ["b0"]], workers=2, places=1)
    assert schedule.deal() == [(0, "a0"), (1, "b0")]
    schedule.put_back(0, ["a0"])
    schedule.end(0)
    schedule.close(0)
    assert schedule.deal() == []
    schedule.end(1)
    assert schedule.deal() == [(1, "a0")]
    schedule.open(0)
    assert schedule.deal() == [(0, "a1")]
    assert not schedule.waiting


@given(
    workers=st.integers(1, 6),
    places=st.integers(1, 5),
    groups=st.lists(st.integers(0, 9), max_size=12),
    chance=st.randoms(use_true_random=False),
)
def test_no_job_waits_while_a_place_is_free(
    workers: int, places: int, groups: list[int], chance: object
) -> None:
    jobs = [[(group, member) for member in range(size)] for group, size in enumerate(groups)]
    schedule = schedule_of(jobs, workers=workers, places=places)
    left, playing = sum(groups), list[tuple[int, tuple[int, int]]]()
    ended = []
    while True:
        playing += schedule.deal()
        counts = Counter(worker for worker, _ in playing)
        assert max(counts.values(), default=0) <= places
        assert len(playing) == min(left, workers * places)
        if not playing:
            break
        worker, job = playing.pop(chance.randrange(len(playing)))  # type: ignore[attr-defined]
        if chance.random() < 0.2:  # type: ignore[attr-defined]
            # The worker died with all its jobs.
            lost = [job, *(job for player, job in playing if player == worker)]
            playing = [pair for pair in playing if pair[0] != worker]
            schedule.put_back(worker, lost)
            for _ in lost:
                schedule.end(worker)
        else:
            schedule.end(worker)
            ended.append(job)
            left -= 1
    assert sorted(ended) == sorted(job for group in jobs for job in group)
