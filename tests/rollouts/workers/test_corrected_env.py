"""An episode ends at the second command that the expert would not have sent."""

from envs import Task
from rollouts.workers.corrected_env import CorrectedEnv
from tests.builders.number_env import NumberEnv

TASK = Task(env_id="number", split="train", family="f", id="number-7")


def test_it_ends_at_the_most_corrections_and_begins_anew() -> None:
    env = CorrectedEnv(NumberEnv(expert=True, advice={"7": "think"}), 2)
    for _ in range(2):
        env.reset(options={"task": TASK})
        cut = [env.step(command)[3] for command in ("think", "guess 1", "think", "guess 2")]
        assert cut == [False, False, False, True]


def test_a_win_stays_a_win() -> None:
    env = CorrectedEnv(NumberEnv(expert=True, advice={"7": "think"}), 1)
    env.reset(options={"task": TASK})
    _, _, terminated, _, info = env.step("guess 7")
    assert terminated
    assert info["success"]
