"""The notebooks run from their first cell to the last, in a small form."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.notebooks import code_cells
from tests.builders.paths import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
QUICKSTART = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
SMALL = (
    "env.options.games.train=12 env.options.games.valid_seen=6 "
    "model.hidden_size=64 model.heads=2 model.kv_heads=2 model.layers=1 "
    "model.intermediate_size=128 model.corpus_tasks=4 sft.episodes=12 "
    "workers.count=1 workers.envs_per_worker=8 serving.max_concurrent=8 serving.kv_cache_gib=0.1 "
    "train.rollout_steps=2 train.eval_every=2 train.tasks_per_step=2 train.num_generations=2 "
    "learner.optimizer_steps=1 evaluation.tasks=4"
)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_its_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4
    for cell in content["cells"]:
        assert cell.get("outputs", []) == [], "Cell > All Output > Clear"
        assert all(len(line.rstrip("\n")) <= 101 for line in cell["source"])
    for code in code_cells(notebook):
        compile(code, notebook.name, "exec")


@pytest.mark.slow
@pytest.mark.engine
def test_the_quickstart_runs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = subprocess.run(
        [sys.executable, "-m", "tests.builders.notebooks", str(QUICKSTART)],
        cwd=QUICKSTART.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "QUICKSTART_SETTINGS": f"run_folder={run} {SMALL}",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = ended.stdout
    captions = re.findall(r"<caption[^>]*>([^<]*)<", shown)
    assert len(captions) == 4, shown
    assert captions[0].endswith("sft/model on valid_seen")
    assert captions[1].endswith("run: 2 of 2 rollout steps")
    assert captions[2] == "Evaluations"
    assert re.search(r"turns, return [+-]\d", captions[3])
    # After the training, and after the warm start.
    assert re.findall(r">(step-000002|sft)[^<]*</td>", shown) == ["step-000002", "sft"]
    assert re.search(r"\d of 4 were won", shown)
