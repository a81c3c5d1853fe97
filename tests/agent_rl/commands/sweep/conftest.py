"""The sweep of the tests."""

from pathlib import Path

import pytest

from agent_rl.commands.sweep.plan import Sweep, read_sweep
from tests.builders.sweeps import write_config


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two variants with two seeds each; nothing of it exists yet."""
    return read_sweep(write_config(tmp_path))
