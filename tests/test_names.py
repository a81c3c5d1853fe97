"""One name, one thing: no public class twice in the product, no public function twice outside the
commands (a command and its implementation may share a name).
"""

import ast
from collections import defaultdict

from tests.test_imports import product_files, syntax_tree


def twice(places: dict[str, list[str]]) -> dict[str, list[str]]:
    """The public names that are in several places."""
    return {
        name: found for name, found in places.items() if len(found) > 1 and not name.startswith("_")
    }


def test_no_public_class_name_twice() -> None:
    places = defaultdict(list)
    for path in product_files():
        for node in syntax_tree(path).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    assert twice(places) == {}


def test_no_public_function_name_twice_outside_the_commands() -> None:
    places = defaultdict(list)
    for path in product_files():
        if path.parts[:2] == ("agent_rl", "commands"):
            continue
        for node in syntax_tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                places[node.name].append(str(path))
    assert twice(places) == {}
