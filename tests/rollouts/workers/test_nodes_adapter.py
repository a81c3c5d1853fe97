"""The way of an adapter to engines on another node: the base goes there once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.paths import ROOT
from tests.builders.ray_nodes import environment, head, second_node, unshare_is_missing

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOKEN = "0123456789abcdef" * 4
SEND = """
import json, sys
from pathlib import Path
from rollouts.processes.ray_cluster import this_node, use_cluster
from rollouts.processes.ray_processes import get, process_of, start_ray, stop_ray
from rollouts.workers.nodes import Nodes

class Reader:
    def read(self, folder):
        files = (path for path in Path(folder).rglob("*") if path.is_file())
        return {
            str(path.relative_to(folder)): (path.read_text(), path.stat().st_mtime_ns)
            for path in files
        }

use_cluster(sys.argv[1])
start_ray()
reader = process_of(Reader, max_concurrency=1, environment={}, place={"num_cpus": 1})()
node, _ = get(reader.process_id.remote())
assert node != this_node()
folder = Path(sys.argv[2])
nodes = Nodes(folder, post=lambda event: None)
times = set()
for adapter in ("first", "second"):
    (folder / "served_adapter/adapter_model.safetensors").write_text(adapter)
    nodes.use_folder(folder)
    found = get(reader.read.remote(nodes.weights(node)))
    times.add(found["model.safetensors"][1])
    print(json.dumps({name: text for name, (text, _) in found.items()}), flush=True)
print(json.dumps(len(times)), flush=True)
nodes.close()
stop_ray()
"""


def test_another_node_gets_the_base_once_and_each_adapter(tmp_path: Path) -> None:
    if missing := unshare_is_missing():
        pytest.skip(f"no second node here: {missing}")
    files = {
        "config.json": "{}",
        "model.safetensors": "base",
        "served_adapter/adapter_config.json": '{"r": 8}',
        "served_adapter/adapter_model.safetensors": "",
    }
    (tmp_path / "served_adapter").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with head(cpus=0, token=TOKEN) as first, second_node(first.address, cpus=1, token=TOKEN):
        ended = subprocess.run(
            [sys.executable, "-c", SEND, first.address, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=environment(TOKEN),
            timeout=120,
        )
    assert ended.returncode == 0, ended.stderr
    *sent, times = [json.loads(line) for line in ended.stdout.splitlines() if line[0] in "{12"]
    for adapter, found in zip(("first", "second"), sent, strict=True):
        assert found == files | {
            "served_adapter/adapter_model.safetensors": adapter,
            "lock": "",
        }
    assert times == 1
