from number_env import NumberEnv

from rollouts import StopReason
from rollouts.jobs import Job, settle
from rollouts.watch import Call

JOBS = [
    Job(number=number, task=task, method="run", arguments={}, again=number == 2)
    for number, task in enumerate(NumberEnv().tasks("train")[:4])
]


def test_what_hung_is_over_and_the_others_are_played_again_once() -> None:
    call = Call(episode=1, command="wait", seconds=61.0)
    over, again = settle(JOBS, call, limit_seconds=60.0, news="killed")
    assert [(job.number, job.again) for job in again] == [(0, True), (3, True)]
    (hung, first), (unlucky, second) = over
    assert (hung, unlucky) == (JOBS[1], JOBS[2])
    assert first.stop_reason is second.stop_reason is StopReason.ENV_ERROR
    assert first.error == (
        "step 'wait' of task 'number-1' did not return within 60 s (episode.env_timeout_seconds), and its process was "
        "ended"
    )
    assert second.error == "the process that held the environment died, a second time: killed"


def test_a_process_may_die_in_a_call_or_between() -> None:
    over, again = settle(JOBS[:2], Call(episode=0, command=None, seconds=0.1), limit_seconds=60.0, news="killed")
    assert [episode.error for _, episode in over] == [
        "the process that held the environment died in reset of task 'number-0': killed"
    ]
    assert [job.number for job in again] == [1]
    assert settle(JOBS[:1], None, limit_seconds=60.0, news="killed")[0] == []
