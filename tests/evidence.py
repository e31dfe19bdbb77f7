"""Which tests there are, and which ids of SECURITY.md each carries: read, not run.

Rules of this file: a test is named as pytest names it, ``tests/unit/test_x.py::TestY::test_z``.
Ids come from ``pytest.mark.audit`` on the test, on its class, or on its module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


def ids_of(marks: Iterable[ast.expr]) -> set[str]:
    """Return the ids of all ``pytest.mark.audit(...)`` within some expressions."""
    return {
        argument.value
        for mark in marks
        for call in ast.walk(mark)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.audit"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


def ids_by_test(source: str) -> dict[str, set[str]]:
    """Return each test of a module, as ``TestY::test_z`` or ``test_z``, with its ids."""
    tree = ast.parse(source)
    module = ids_of(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    )
    return dict(_tests(tree.body, "", module))


def _tests(body: list[ast.stmt], prefix: str, above: set[str]) -> Iterator[tuple[str, set[str]]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            own = above | ids_of(node.decorator_list)
            yield from _tests(node.body, f"{prefix}{node.name}::", own)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:4] == "test":
            yield prefix + node.name, above | ids_of(node.decorator_list)


@cache
def all_tests() -> dict[str, set[str]]:
    """Return every test of the suite, with its ids."""
    return {
        f"{path.relative_to(ROOT).as_posix()}::{name}": ids
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name, ids in ids_by_test(path.read_text(encoding="utf-8")).items()
    }
