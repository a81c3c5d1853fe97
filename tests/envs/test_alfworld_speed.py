"""What the engine remembers changes nothing: the same walks in a process that lets it forget."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from envs.alfworld_generator import GeneratorSettings, generate_games

WALK = """
import json, random, sys
import envs.alfworld_env as alfworld
if sys.argv[2] == "stock":
    alfworld.remember_what_was_parsed = lambda: None
env = alfworld.AlfworldEnv(data=sys.argv[1], expert=True)
rng = random.Random(0)
seen = []
for task in env.tasks("train"):
    for _ in range(2):  # the second time, everything is remembered
        text, info = env.reset(seed=1, options={"task": task})
        seen.append([text, info])
        for turn in range(14):
            commands = [info.get("expert_command"), "look", "inventory", "take it", *info["admissible_commands"]]
            command = commands[0] if turn % 3 else rng.choice(commands[1:])
            text, reward, terminated, _, info = env.step(command)
            seen.append([command, text, reward, terminated, info])
            if terminated:
                break
import fast_downward
remembers = hasattr(fast_downward.pddl2sas, "cache_info")
print(json.dumps({"seen": seen, "remembers": remembers}))
"""


def walks(data: Path, engine: str) -> dict[str, object]:
    command = [sys.executable, "-c", WALK, str(data), engine]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(data), "AGENT_RL_CACHE": str(data / "c")}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout
    result: dict[str, object] = json.loads(output.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speed")
    generate_games(root / "games", GeneratorSettings(train=6, valid_seen=0, valid_unseen=0, seed=11))
    return root / "games"


def test_the_same_texts_commands_rewards_and_advice(data: Path) -> None:
    stock, quick = walks(data, "stock"), walks(data, "quick")
    assert (stock["remembers"], quick["remembers"]) == (False, True)
    assert isinstance(stock["seen"], list)
    assert len(stock["seen"]) > 100
    assert quick["seen"] == stock["seen"]
    assert any(step[3] for step in stock["seen"] if len(step) == 5), "no walk was won"
