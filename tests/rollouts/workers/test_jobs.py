from dataclasses import replace
from itertools import count

from rollouts import StopReason
from rollouts.seeds import derive_seed
from rollouts.workers.calls import Call
from rollouts.workers.jobs import EpisodeJob, group_jobs, scripted_jobs, settle_jobs
from tests.builders.number_env import NumberEnv

TASKS = NumberEnv().tasks("train")
JOBS = [
    EpisodeJob(number=number, task=task, method="run", arguments={}, retried=number == 2)
    for number, task in enumerate(TASKS[:4])
]


def test_a_task_that_comes_again_goes_on_with_other_seeds() -> None:
    first, other, second = group_jobs(
        [TASKS[1], TASKS[2], TASKS[1]], 2, temperature=0.5, seed=3, numbers=count(10)
    )
    assert [job.number for job in (*first, *other, *second)] == list(range(10, 16))
    assert {job.task for job in (*first, *second)} == {TASKS[1]}
    seeds = [job.arguments["seed"] for job in (*first, *second)]
    assert seeds == [derive_seed(3, "train", "number-1", member) for member in range(4)]
    seed = derive_seed(3, "train", "number-2", 0)
    conditions = {"temperature": 0.5, "advised": False, "corrections": None}
    assert other[0].arguments == {**conditions, "seed": seed}


def test_a_player_plays_each_task_once() -> None:
    ((first,), (second,)) = scripted_jobs(TASKS[:2], "expert", noise=0.1, seed=3, numbers=count(4))
    assert [(job.number, job.task) for job in (first, second)] == [(4, TASKS[0]), (5, TASKS[1])]
    seed = derive_seed(3, "train", "number-1", 1)
    assert second.arguments == {"player": "expert", "noise": 0.1, "seed": seed}
    assert second.method == "run_scripted"


def test_a_hung_episode_fails_and_the_others_are_played_again() -> None:
    call = Call(episode=1, command="wait", seconds=61.0)
    failed, repeated = settle_jobs(JOBS, call, limit_seconds=60.0, death="killed")
    assert repeated == [JOBS[0], JOBS[2], JOBS[3]]
    ((hung, episode),) = failed
    assert hung == JOBS[1]
    assert episode.stop_reason is StopReason.ENV_ERROR
    assert episode.error == (
        "step 'wait' of task 'number-1' did not return within 60 s (episode.env_timeout_seconds), "
        "and its process was ended"
    )


def test_a_process_may_die_in_a_call() -> None:
    failed, repeated = settle_jobs(
        JOBS[:2], Call(episode=0, command=None, seconds=0.1), limit_seconds=60.0, death="killed"
    )
    assert [episode.error for _, episode in failed] == [
        "the process that held the environment died in reset of task 'number-0': killed"
    ]
    assert repeated == [JOBS[1]]


def test_without_a_call_to_blame_all_are_played_again_once() -> None:
    elsewhere = Call(episode=9, command="wait", seconds=0.1)
    for call in (None, elsewhere):
        failed, repeated = settle_jobs(JOBS, call, limit_seconds=60.0, death="killed")
        assert [(job.number, job.retried) for job in repeated] == [(0, True), (1, True), (3, True)]
        ((job, episode),) = failed
        assert job == JOBS[2]
        assert episode.error == "the process that held the environment died, a second time: killed"


def test_a_reset_that_hangs_fails_all_episodes_of_its_task() -> None:
    jobs = [replace(JOBS[1], number=number) for number in range(3)] + [replace(JOBS[0], number=3)]
    call = Call(episode=1, command=None, seconds=61.0)
    failed, repeated = settle_jobs(jobs, call, limit_seconds=60.0, death="killed")
    assert [job.number for job, _ in failed] == [0, 1, 2]
    assert {episode.error.partition(" did")[0] for _, episode in failed} == {
        "reset of task 'number-1'"
    }
    assert repeated == [jobs[3]]
