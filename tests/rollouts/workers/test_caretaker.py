import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rollouts.workers.calls import CallPage
from rollouts.workers.caretaker import Caretaker
from tests.builders.paths import ROOT

SILENT = """
import time
from rollouts.workers.caretaker import Caretaker
caretaker = Caretaker(silent_seconds=0.5)
print(caretaker.hold({}, 4), flush=True)
for _ in range(5):
    time.sleep(0.25)
    caretaker.calls()
print("asked", flush=True)
time.sleep(60)
"""


def test_a_page_tells_of_its_writers_call_until_it_is_taken() -> None:
    caretaker = Caretaker()
    pages = {worker: caretaker.page(worker) for worker in (0, 1)}
    assert caretaker.calls() == {}
    CallPage(pages[1]).begin(7, "go north")
    assert {worker: call.command for worker, call in caretaker.calls().items()} == {1: "go north"}
    call = caretaker.take_call(1)
    assert call is not None
    assert call.episode == 7
    assert caretaker.take_call(1) is None
    # The successor is not to blame for it.
    CallPage(caretaker.page(1)).end()
    assert caretaker.calls() == {}
    caretaker.close()
    assert not pages[0].exists()


def test_a_model_is_kept_in_a_private_folder_until_the_end() -> None:
    caretaker = Caretaker()
    files = {"config.json": b"{}", "tokenizer.json": b"[]"}
    folder = caretaker.hold(files, 4)
    assert {path.name for path in folder.iterdir()} == {*files, "lock"}
    assert folder.stat().st_mode & 0o777 == 0o700
    for weights in (b"abcd", b"efgh"):
        held = caretaker.hold(files, 4, np.frombuffer(weights, dtype=np.uint8))
        assert held == folder
        assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "config.json").read_bytes() == b"{}"
    caretaker.close()
    assert not folder.exists()


def test_of_an_adapter_the_base_is_kept_and_the_adapter_replaced() -> None:
    caretaker = Caretaker()
    files = {"config.json": b"{}", "served_adapter/adapter_config.json": b'{"r": 8}'}
    base, *adapters = (np.frombuffer(text, dtype=np.uint8) for text in (b"base", b"ab", b"cd"))
    folder = caretaker.hold(files, 4, base, adapters[0])
    assert caretaker.hold(files, 4, None, adapters[1]) == folder
    assert (folder / "model.safetensors").read_bytes() == b"base"
    assert {path.name: path.read_bytes() for path in (folder / "served_adapter").iterdir()} == {
        "adapter_config.json": b'{"r": 8}',
        "adapter_model.safetensors": b"cd",
    }
    caretaker.close()


@pytest.mark.process
def test_a_caretaker_that_is_asked_nothing_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SILENT],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=50,
    )
    folder, asked = ended.stdout.splitlines()
    assert (ended.returncode, asked) == (1, "asked")
    assert not Path(folder).exists()
