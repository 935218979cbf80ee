"""The house's own measures (STYLE): modules that can be read in one go, functions that fit a screen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossmount import errors

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "ossmount").rglob("*.py"))
MODULE_LINES = 400
FUNCTION_LINES = 60


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_can_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_fit_a_screen(path: Path) -> None:
    long = {
        function.name: function.end_lineno - function.lineno + 1
        for function in functions(ast.parse(path.read_text()))
        if function.end_lineno and function.end_lineno - function.lineno >= FUNCTION_LINES
    }
    assert long == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_tree_of_errors_is_drawn_whole() -> None:
    drawn = re.findall(r"^(?:[ │]*[├└]── |    )(\w+)", errors.__doc__ or "", re.MULTILINE)
    made = [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    ]
    assert sorted(drawn) == sorted(made)
