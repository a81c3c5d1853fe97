"""The import rules of docs/architecture.md, as a failing test instead of a review comment."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "envs": {"envs"},
    "rollouts": {"rollouts", "envs"},
    "agent_rl": {"agent_rl", "rollouts", "envs"},
}
ONLY_IN = {
    "vllm": {"rollouts/serving/served_policy.py"},
    "ray": {"rollouts/workers/pool.py", "rollouts/processes/ray_processes.py"},
}
TORCH_ONLY = ("agent_rl/objective/advantages.py", "agent_rl/objective/policy_loss.py")
HEAVY = ("torch", "ray", "vllm", "transformers", "alfworld", "textworld")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Full names of all modules that a file imports, those within functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_downwards_only(package: str) -> None:
    assert modules(package)
    for path in modules(package):
        ours = {name.partition(".")[0] for name in imported_modules(path)} & set(MAY_IMPORT)
        assert ours <= MAY_IMPORT[package], (
            f"{path.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"
        )


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_engine_lives_in_one_file(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for package in MAY_IMPORT
        for path in modules(package)
        if library in {name.partition(".")[0] for name in imported_modules(path)}
    }
    assert users == ONLY_IN[library]


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_mathematics_imports_torch_only(name: str) -> None:
    allowed = {"torch", "typing", "dataclasses", "math", "collections"}
    used = imported_modules(ROOT / name) - {
        "agent_rl.objective.presets",
        "agent_rl.config.learner",
    }  # names and numbers, no library
    assert {module.partition(".")[0] for module in used} <= allowed


def test_the_learner_knows_no_environment() -> None:
    for name in (
        "learner/learner.py",
        "learner/loss.py",
        "learner/scoring.py",
        "objective/policy_loss.py",
        "policy/loading.py",
        "learner/sharding.py",
    ):
        used = {module.partition(".")[0] for module in imported_modules(ROOT / "agent_rl" / name)}
        assert not used & {"envs", "ray", "vllm", "alfworld", "textworld"}, name


def test_init_files_only_reexport() -> None:
    for path in [
        path for package in MAY_IMPORT for path in modules(package) if path.name == "__init__.py"
    ]:
        for node in ast.parse(path.read_text()).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            names = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            assert docstring or names or isinstance(node, ast.ImportFrom), ast.unparse(node)


def test_checking_a_config_loads_nothing_heavy() -> None:
    code = f"import sys, agent_rl.config, agent_rl.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
