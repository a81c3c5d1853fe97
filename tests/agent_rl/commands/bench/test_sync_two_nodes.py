"""`agent-rl bench sync` with the engine on a node that shares nothing but code and network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.models import save_policy
from tests.builders.ray_nodes import environment, head, second_node, unshare_is_missing

pytestmark = [pytest.mark.engine, pytest.mark.slow]
TOKEN = "0123456789abcdef" * 4


def test_an_update_of_an_engine_on_another_node_is_timed(tmp_path: Path) -> None:
    if missing := unshare_is_missing():
        pytest.skip(f"no second node here: {missing}")
    model, record = save_policy(tmp_path / "policy", 0), tmp_path / "b.json"
    arguments = ["bench", "sync", "--model", str(model), "--repeats", "1", "--json", str(record)]
    # All that is set aside is on the second node.
    with head(cpus=0, token=TOKEN) as first, second_node(first.address, cpus=2, token=TOKEN):
        ended = subprocess.run(
            [sys.executable, "-m", "agent_rl.cli", *arguments, "--ray-address", first.address],
            capture_output=True,
            text=True,
            check=False,
            env=environment(TOKEN, COLUMNS="200"),
            timeout=300,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (row,) = json.loads(record.read_text())
    assert (row["node"], len(row["updates"])) == ("another", 1)
    assert "the engine's node" in ended.stdout
