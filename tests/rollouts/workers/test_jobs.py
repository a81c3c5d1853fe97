from rollouts import StopReason
from rollouts.seeds import derive_seed
from rollouts.workers.calls import Call
from rollouts.workers.jobs import Job, group_jobs, settle
from tests.builders.number_env import NumberEnv

TASKS = NumberEnv().tasks("train")
JOBS = [
    Job(number=number, task=task, method="run", arguments={}, again=number == 2)
    for number, task in enumerate(TASKS[:4])
]


def test_a_task_that_comes_again_goes_on_with_other_seeds() -> None:
    one, two, again = group_jobs([TASKS[1], TASKS[2], TASKS[1]], 2, temperature=0.5, seed=3)
    assert [job.number for job in (*one, *two, *again)] == list(range(6))
    assert {job.task for job in (*one, *again)} == {TASKS[1]}
    seeds = [job.arguments["seed"] for job in (*one, *again)]
    assert seeds == [derive_seed(3, "train", "number-1", member) for member in range(4)]
    assert two[0].arguments == {"temperature": 0.5, "seed": derive_seed(3, "train", "number-2", 0)}


def test_what_hung_is_over_and_the_others_are_played_again() -> None:
    call = Call(episode=1, command="wait", seconds=61.0)
    over, again = settle(JOBS, call, limit_seconds=60.0, news="killed")
    assert again == [JOBS[0], JOBS[2], JOBS[3]]
    ((hung, episode),) = over
    assert hung == JOBS[1]
    assert episode.stop_reason is StopReason.ENV_ERROR
    assert episode.error == (
        "step 'wait' of task 'number-1' did not return within 60 s (episode.env_timeout_seconds), and its process was "
        "ended"
    )


def test_a_process_may_die_in_a_call() -> None:
    over, again = settle(
        JOBS[:2], Call(episode=0, command=None, seconds=0.1), limit_seconds=60.0, news="killed"
    )
    assert [episode.error for _, episode in over] == [
        "the process that held the environment died in reset of task 'number-0': killed"
    ]
    assert again == [JOBS[1]]


def test_where_nobody_is_to_blame_all_are_played_again_once() -> None:
    elsewhere = Call(episode=9, command="wait", seconds=0.1)
    for call in (None, elsewhere):
        over, again = settle(JOBS, call, limit_seconds=60.0, news="killed")
        assert [(job.number, job.again) for job in again] == [(0, True), (1, True), (3, True)]
        ((job, episode),) = over
        assert job == JOBS[2]
        assert episode.error == "the process that held the environment died, a second time: killed"
