"""The expert, evaluated as a policy is: over real processes, with no model anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

from agent_rl.run_folder import load_trajectories

ROOT = Path(__file__).parents[2]
CONFIG = """
run_folder: run
env: {id: "number_env:NumberEnv"}
episode: {max_turns: 6, max_action_tokens: 1, env_timeout_seconds: 1.0}
workers: {count: 1, envs_per_worker: 4}
evaluation: {split: train}
"""
CODE = (
    "import sys; from agent_rl.cli import app; app(standalone_mode=False); print([m for m in {} if m in sys.modules])"
)


def evaluate(folder: Path, *arguments: str) -> str:
    (folder / "c.yaml").write_text(CONFIG)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "rollouts")])
    code = CODE.format(("torch", "vllm", "transformers"))
    process = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "c.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_expert_is_evaluated_without_a_model(tmp_path: Path) -> None:
    shown = evaluate(tmp_path, "--model", "expert", "--json", "r.json", 'env.options.advice={"3": hang}')
    assert "expert on train" in shown
    assert "the first: step 'hang' of task 'number-3' did not return within 1 s" in shown
    assert shown.splitlines()[-1] == "[]", "a library for models was loaded"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["setting"] == {"split": "train", "temperature": None, "seed": 0, "model": "expert"}
    assert (report["overall"]["n"], report["overall"]["successes"]) == (9, 9)
    assert (report["families"]["odd"]["n"], report["failures"]) == (4, {"env_error": 1})
    assert len(load_trajectories(tmp_path / "run" / "evaluation" / "train-expert.jsonl")) == 10
