"""The expert and chance, evaluated as a policy is: by real processes, without any model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_rl.runs.trajectories import load_trajectories
from tests.builders.paths import ROOT

pytestmark = pytest.mark.process

CONFIG = """
run_folder: run
env: {id: "tests.builders.number_env:NumberEnv"}
episode: {max_turns: 6, max_action_tokens: 1, env_timeout_seconds: 1.0}
workers: {count: 1, envs_per_worker: 4}
evaluation: {split: train}
"""
CODE = """
import sys
from agent_rl.cli import app
app(standalone_mode=False)
print([name for name in ("ray", "torch", "vllm", "transformers") if name in sys.modules])
"""


def evaluate(folder: Path, *arguments: str) -> str:
    (folder / "c.yaml").write_text(CONFIG)
    process = subprocess.run(
        [sys.executable, "-c", CODE, "evaluate", "c.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_expert_is_evaluated_without_a_model(tmp_path: Path) -> None:
    """One game hangs the expert: it is named and not scored."""
    hang = 'env.options.advice={"3": hang}'
    shown = evaluate(tmp_path, "--model", "expert", "--json", "r.json", hang)
    assert "expert on train" in shown
    assert (
        "the first episode that is not scored: step 'hang' of task 'number-3' did not return "
        "within 1 s" in shown
    )
    assert shown.splitlines()[-1] == "['ray']", "a library for models was loaded"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["setting"] == {
        "model": "expert",
        "weights": None,
        "temperature": None,
        "seed": 0,
        "repeats": 1,
        "env": "tests.builders.number_env:NumberEnv",
        "env_options": {"advice": {"3": "hang"}},
        "max_turns": 6,
        "max_action_tokens": 1,
        "max_thought_tokens": 0,
    }
    part = report["splits"]["train"]
    assert (part["overall"]["n"], part["overall"]["successes"]) == (9, 9)
    assert part["overall"]["tokens_per_episode"] is None
    assert (part["families"]["odd"]["n"], part["failures"]) == (4, {"env_error": 1})
    (folder,) = (path for path in (tmp_path / "run" / "evaluations").iterdir() if path.is_dir())
    assert len(load_trajectories(folder / "repeat-1.jsonl")) == 10


def test_chance_goes_on_with_its_own_seeds_and_a_whole_evaluation_starts_nothing(
    tmp_path: Path,
) -> None:
    """Of three repeats the second is interrupted and the third torn; the report is the same."""
    arguments = ("--model", "random", "--json", "r.json", "--repeats", "3")
    assert "repeats: " in evaluate(tmp_path, *arguments)
    expected = json.loads((tmp_path / "r.json").read_text())
    assert expected["splits"]["train"]["overall"]["repeats"] == 3
    (folder,) = (path for path in (tmp_path / "run" / "evaluations").iterdir() if path.is_dir())
    second, third = folder / "repeat-2.jsonl", folder / "repeat-3.jsonl"
    assert second.read_text() != third.read_text()
    second.write_text("".join(second.read_text().splitlines(keepends=True)[6:]))
    third.write_text(third.read_text()[:-5])
    assert "23 of 30 episodes have been played before" in evaluate(tmp_path, *arguments)
    assert json.loads((tmp_path / "r.json").read_text()) == expected
    shown = evaluate(tmp_path, *arguments)
    assert "30 of 30 episodes have been played before" in shown
    assert shown.splitlines()[-1] == "[]", "Ray was loaded for nothing"
    assert json.loads((tmp_path / "r.json").read_text()) == expected
