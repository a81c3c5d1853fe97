"""Tests mirror the packages: `agent_rl/tasks.py` is tested in `tests/agent_rl/test_tasks.py`.

A module with many tests may have several files: `test_plan.py`, `test_plan_micro_batches.py`.
"""

from pathlib import Path

from tests.builders.paths import ROOT
from tests.test_imports import PACKAGES, product_files

TESTED_ELSEWHERE = {
    "agent_rl/commands/bench/learner.py": "a benchmark: see bench/test_learner_steps.py",
    "agent_rl/commands/convert/trl_keys.py": "tables: test_trl_config.py",
    "agent_rl/commands/report/limits.py": "a constant",
    "agent_rl/commands/stages/init.py": "test_cli.py",
    "agent_rl/commands/stages/sft.py": "test_trainer.py",
    "agent_rl/objective/presets.py": "test_policy_loss.py",
    "agent_rl/runs/trackers/tracker.py": "plain values, and a protocol",
    "agent_rl/training/session.py": "test_parity.py and test_trainer.py",
    "envs/alfworld/engines/engine.py": "a protocol: test_native.py and test_stock.py",
    "envs/task.py": "a plain value",
    "rollouts/processes/openmp.py": "a constant",
    "rollouts/processes/ray_signals.py": "agent_rl/training/test_stopping.py",
    "rollouts/serving/vllm_worker.py": "agent_rl/training/test_parity.py",
}
"""Modules without a test file of their name. The `cli.py` of a command is tested by its work."""

OF_SEVERAL_MODULES = {"agent_rl/training/test_parity.py"}
"""Test files that are about no single module."""


def files_with_tests_of(module: Path) -> list[Path]:
    """The test files that carry a module's name."""
    folder = ROOT / "tests" / module.parent
    return [*folder.glob(f"test_{module.stem}.py"), *folder.glob(f"test_{module.stem}_*.py")]


def test_each_module_has_a_test_file_of_its_name() -> None:
    for path in product_files():
        is_command_line = path.name == "cli.py" and path.parts[:2] == ("agent_rl", "commands")
        if path.name == "__init__.py" or is_command_line:
            continue
        listed = str(path) in TESTED_ELSEWHERE
        has_one = (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()
        assert has_one != listed, f"{path}: write its test file, or say where it is tested"


def test_each_test_file_has_the_name_of_a_module() -> None:
    named = {test for module in product_files() for test in files_with_tests_of(module)}
    for package in PACKAGES:
        for test in (ROOT / "tests" / package).rglob("test_*.py"):
            relative = test.relative_to(ROOT / "tests").as_posix()
            assert test in named or relative in OF_SEVERAL_MODULES, f"{relative}: no such module"
