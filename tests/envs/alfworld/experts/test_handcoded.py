"""The alfworld package's expert, alone and along other commands."""

import random
from collections.abc import Iterator

import pytest

from envs import Task
from envs.alfworld.env import AlfworldEnv


@pytest.fixture(scope="module")
def expert_env(data: str) -> Iterator[AlfworldEnv]:
    env = AlfworldEnv(data=data, expert=True)
    yield env
    env.close()


def play(env: AlfworldEnv, task: Task, *, noise: float, max_turns: int, seed: int = 0) -> list[str]:
    """Follow the expert, with random admissible commands in between; ends with "won" if that
    wins.
    """
    rng = random.Random(seed)
    _, info = env.reset(seed=seed, options={"task": task})
    sent = []
    for _ in range(max_turns):
        command = info["expert_command"]
        if rng.random() < noise:
            command = rng.choice(info["admissible_commands"])
        assert command in info["admissible_commands"]
        _, _, terminated, _, info = env.step(command)
        sent.append(command)
        if terminated:
            assert info["success"]
            return [*sent, "won"]
    return sent


def test_the_expert_wins_and_finds_back_after_others_commands(expert_env: AlfworldEnv) -> None:
    tasks = expert_env.tasks("train")
    alone = [play(expert_env, task, noise=0.0, max_turns=30)[-1] == "won" for task in tasks]
    disturbed = [play(expert_env, task, noise=0.1, max_turns=40)[-1] == "won" for task in tasks]
    assert len(tasks) == 12
    assert sum(alone) >= 11
    assert sum(disturbed) >= 11


def test_the_expert_keeps_to_its_own_randomness(expert_env: AlfworldEnv) -> None:
    task = next(
        task for task in expert_env.tasks("valid_seen") if task.family == "pick_two_obj_and_place"
    )
    random.seed(1)
    before = random.getstate()
    first = play(expert_env, task, noise=0.3, max_turns=15)
    assert random.getstate() == before
    random.seed(2)
    assert play(expert_env, task, noise=0.3, max_turns=15) == first
