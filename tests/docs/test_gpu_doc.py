"""docs/gpu.md shows what `agent-rl bench gpu --estimate` prints."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from agent_rl.cli import app
from agent_rl.display import console
from tests.builders.paths import ROOT

PAGE = (ROOT / "docs/gpu.md").read_text()


def test_the_estimate_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```bash\nagent-rl (bench gpu .*?)```\n\n```\n(.*?)\n```", PAGE, re.DOTALL)
    assert found is not None
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(console, "width", 100)
    ended = CliRunner().invoke(app, shlex.split(found[1].replace("\\\n", " ")))
    assert ended.exit_code == 0, ended.output
    assert "\n".join(line.rstrip() for line in ended.output.splitlines()) == found[2]
