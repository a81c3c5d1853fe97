"""Runs a notebook as a kernel does, without one: cells in order, each in an event loop.

    python -m tests.builders.notebooks NOTEBOOK

Lines for IPython (`%pip ...`) are left out. What a cell's last line gives is printed: as HTML if it
can be, which is how a notebook shows it.
"""

import ast
import asyncio
import json
import sys
from pathlib import Path
from typing import Any


def code_cells(notebook: Path) -> list[str]:
    """The code of the cells, without the lines for IPython."""
    cells = []
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            cells.append("\n".join(line for line in lines if not line.startswith(("%", "!"))))
    return cells


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last line if that is an expression."""
    tree = ast.parse(code)
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        exec(compile(tree, "<cell>", "exec"), names)
        return None
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def run_notebook(notebook: Path) -> None:
    """Run all cells, and print what a notebook would show."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in code_cells(notebook):

        async def in_a_loop(code: str = code) -> Any:
            return run_cell(code, names)

        shown = asyncio.run(in_a_loop())
        if shown is not None:
            html = getattr(shown, "_repr_html_", None)
            print(html() if html else repr(shown), flush=True)


if __name__ == "__main__":
    # One Ray for all stages: each would start its own, which takes ten seconds.
    from rollouts.processes.ray_processes import start_ray, stop_ray

    start_ray()
    try:
        run_notebook(Path(sys.argv[1]))
    finally:
        stop_ray()
