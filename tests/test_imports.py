"""The import rules of docs/architecture.md. A newcomer meets them here as a failing test."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.builders.paths import ROOT

PACKAGES = ("agent_rl", "envs", "rollouts")

LIBRARY = (
    "agent_rl.config",
    "agent_rl.display",
    "agent_rl.evaluation",
    "agent_rl.files",
    "agent_rl.learner",
    "agent_rl.objective",
    "agent_rl.policy",
    "agent_rl.runs",
    "agent_rl.tasks",
    "agent_rl.training",
    "rollouts",
    "envs",
)

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "envs": (),
    "rollouts": ("envs",),
    "agent_rl.objective": (),
    "agent_rl.config": (
        "agent_rl.objective.presets",
        "rollouts.settings",
        "envs.nearest",
        "envs.registry",
    ),
    "agent_rl.files": ("agent_rl.config", "envs.files"),
    "agent_rl.display": ("rollouts",),
    "agent_rl.tasks": ("agent_rl.config", "envs"),
    "agent_rl.policy": (
        "agent_rl.config",
        "agent_rl.display",
        "agent_rl.files",
        "rollouts.processes.serving_folder",
        "rollouts.serving.dtypes",
        "rollouts.serving.served_adapter",
    ),
    "agent_rl.learner": (
        "agent_rl.config",
        "agent_rl.display",
        "agent_rl.files",
        "agent_rl.objective",
        "agent_rl.policy",
        "agent_rl.runs.layout",
        "rollouts.processes",
        "rollouts.serving.dtypes",
        "rollouts.settings",
        "rollouts.types",
    ),
    "agent_rl.runs": ("agent_rl.config", "agent_rl.files", "agent_rl.policy", "rollouts"),
    # Trackers show what a run has written, evaluations too; nothing there imports them.
    "agent_rl.runs.trackers": (
        "agent_rl.config",
        "agent_rl.display",
        "agent_rl.evaluation",
        "agent_rl.files",
        "agent_rl.runs",
        "rollouts",
    ),
    "agent_rl.evaluation": (
        "agent_rl.config",
        "agent_rl.display",
        "agent_rl.files",
        "agent_rl.runs",
        "agent_rl.tasks",
        "envs",
        "rollouts",
    ),
    "agent_rl.training": LIBRARY,
    "agent_rl.commands": (*LIBRARY, "agent_rl.commands.stages"),
    # The map of a grid is read and shown as a comparison is.
    "agent_rl.commands.sweep": (
        *LIBRARY,
        "agent_rl.commands.stages",
        "agent_rl.commands.compare",
    ),
    "agent_rl.commands.report": (*LIBRARY, "agent_rl.commands.compare"),
    "agent_rl.commands.stages": (*LIBRARY, "agent_rl.commands.report"),
    # The command line's types for games (which data, which split) are shared. A replay names its
    # variants as a sweep does, and shows them as a comparison does.
    "agent_rl.commands.bench": (
        *LIBRARY,
        "agent_rl.commands.stages",
        "agent_rl.commands.games",
        "agent_rl.commands.sweep.plan",
        "agent_rl.commands.compare",
    ),
    "agent_rl.trainer": (*LIBRARY, "agent_rl.commands"),
    "agent_rl.cli": (*LIBRARY, "agent_rl.commands"),
}
"""What each room may import; the longest name that fits a module counts. Its own room is free."""

LIGHT = (
    "agent_rl.cli",
    "agent_rl.config",
    "agent_rl.files",
    "agent_rl.policy.folder",
    "agent_rl.runs.layout",
    "agent_rl.runs.trackers.tracker_process",
    "agent_rl.commands.stages.target",
    "agent_rl.commands.sweep.plan",
)
"""Modules that load nothing heavy: a typo in a config is answered at once."""
HEAVY = ("torch", "ray", "vllm", "transformers", "alfworld", "textworld")

ONLY_IN = {
    "vllm": {"rollouts/serving/vllm_engine.py"},
    "ray": {
        "rollouts/processes/ray_cluster.py",
        "rollouts/processes/ray_processes.py",
        "rollouts/processes/ray_signals.py",
    },
    "wandb": {"agent_rl/runs/trackers/wandb_tracker.py"},
    "mlflow": {"agent_rl/runs/trackers/mlflow_tracker.py"},
    "trackio": {"agent_rl/runs/trackers/trackio_tracker.py"},
}
"""The only files that import these libraries."""

MATHEMATICS = {"torch", "typing", "dataclasses", "math", "collections"}
"""What `agent_rl.objective` may import."""

MOST_FILE_LINES, MOST_FUNCTION_LINES = 400, 60
MOST_NAMES = {"agent_rl": 14, "envs": 12, "rollouts": 14}
"""How many files and folders each package shows at its top, `__init__.py` among them."""


def product_files() -> list[Path]:
    """All modules of the three packages, relative to the repository."""
    return sorted(
        path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    )


def module_name(path: Path) -> str:
    """`envs/worlds/__init__.py` is `envs.worlds`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def syntax_tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse((ROOT / path).read_text())


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Full names of all modules that a file imports, those within functions included."""
    names: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if is_module(submodule) else node.module)
    return frozenset(names)


def is_module(name: str) -> bool:
    """Whether a name is a file or a folder of ours."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def is_within(module: str, room: str) -> bool:
    """Whether a module is a room or lies in it."""
    return module == room or module.startswith(f"{room}.")


def rule_of(module: str) -> str | None:
    """The row of `MAY_IMPORT` for a module: the longest name that holds it."""
    rooms = [room for room in MAY_IMPORT if is_within(module, room)]
    return max(rooms, key=len, default=None)


def own_room(module: str, rule: str) -> str:
    """A module's own room: the row's, or its own command under `agent_rl.commands`."""
    if rule == "agent_rl.commands":
        return ".".join(module.split(".")[:3])
    return rule


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_a_room_imports_what_the_table_says(path: Path) -> None:
    module = module_name(path)
    if module == "agent_rl":
        assert not imported_modules(path)
        return
    if module == "agent_rl.commands":
        assert not imported_modules(path)
        return
    rule = rule_of(module)
    assert rule is not None, f"{path} is in no room of MAY_IMPORT"
    allowed = (own_room(module, rule), *MAY_IMPORT[rule])
    for name in imported_modules(path):
        if name.partition(".")[0] in PACKAGES:
            assert any(is_within(name, room) for room in allowed), f"{path} imports {name}"


def test_no_module_imports_itself_through_others() -> None:
    imports: dict[str, set[str]] = {}
    for path in product_files():
        names = imported_modules(path)
        imports[module_name(path)] = {n for n in names if n.partition(".")[0] in PACKAGES}
    finished: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in finished:
            return
        for name in sorted(imports.get(module, ())):
            visit(name, [*trail, module])
        finished.add(module)

    for module in sorted(imports):
        visit(module, [])


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_engine_and_tracker_lives_in_one_file(library: str) -> None:
    users = set()
    for path in product_files():
        if library in {name.partition(".")[0] for name in imported_modules(path)}:
            users.add(str(path))
    assert users == ONLY_IN[library]


def test_mathematics_imports_torch_only() -> None:
    for path in product_files():
        if not is_within(module_name(path), "agent_rl.objective"):
            continue
        for name in imported_modules(path):
            ours = is_within(name, "agent_rl.objective")
            assert ours or name.partition(".")[0] in MATHEMATICS, f"{path} imports {name}"


def test_init_files_only_reexport() -> None:
    for path in product_files():
        if path.name != "__init__.py":
            continue
        for node in syntax_tree(path).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            names = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            assert docstring or names or isinstance(node, ast.ImportFrom), ast.unparse(node)


def test_light_modules_load_nothing_heavy() -> None:
    # One process for all of them: each would take two seconds.
    code = f"""
import importlib, sys
for module in {LIGHT!r}:
    importlib.import_module(module)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    if loaded:
        sys.exit(f"{{module}} loads {{loaded}}")
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= MOST_FILE_LINES
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MOST_FUNCTION_LINES, f"{path}:{node.lineno} {node.name}: {lines} lines"


@pytest.mark.parametrize("package", MOST_NAMES)
def test_a_package_shows_few_names(package: str) -> None:
    names = {path.parts[1] for path in product_files() if path.parts[0] == package}
    assert len(names) <= MOST_NAMES[package], sorted(names)
