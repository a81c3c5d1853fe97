"""A missing package is an error that says how to install it. A name that no package has stands for
one that is not installed."""

from pathlib import Path

import pytest

from agent_rl.config import Config, ConfigError
from agent_rl.runs.trackers.packages import PACKAGES, require_trackers

CONFIG = Config.model_validate({"run_folder": "r", "tracking": {"trackers": "wandb"}})
MISSING = "no_package_of_this_name"


def test_a_run_without_trackers_needs_no_package() -> None:
    require_trackers(Config(run_folder="r"))


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "wandb", MISSING)
    with pytest.raises(ConfigError, match=r"trackers: wandb: .* `pip install 'agent-rl\[wandb\]'`"):
        require_trackers(CONFIG)


def test_a_folder_of_the_packages_name_is_no_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(PACKAGES, "wandb", MISSING)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / MISSING).mkdir()
    with pytest.raises(ConfigError, match="not installed"):
        require_trackers(CONFIG)
    (tmp_path / MISSING / "__init__.py").touch()
    require_trackers(CONFIG)
