"""The specification consists of the test names, as plain sentences, and a page lists them by law."""

import ast
import subprocess
import sys

import pytest
from support.places import ROOT, TESTS
from support.specification import PAGE, page
from zeroloss.invariants import INVARIANTS

LONGEST = 100
FILES = sorted(TESTS.rglob("test_*.py"))


def names() -> list[str]:
    """Return the name of each test."""
    functions = (node for path in FILES for node in ast.parse(path.read_text()).body)
    return [node.name for node in functions if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_the_page_of_the_specification_is_current() -> None:
    assert PAGE.read_text() == page(), "write it again: PYTHONPATH=.:tests python -m support.specification"


@pytest.mark.parametrize("number", INVARIANTS)
def test_each_law_is_held_by_tests(number: str) -> None:
    _, _, rest = page().partition(f"## {number}: ")
    assert rest.partition("\n## ")[0].count("\n- ") >= 5


def test_the_subject_of_a_test_is_a_noun_and_its_name_no_longer_than_a_line() -> None:
    assert [name for name in names() if name.startswith(("test_what_", "test_who"))] == []
    assert [name for name in names() if len(name) > LONGEST] == []


def test_no_test_imports_another_test_file() -> None:
    found = []
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [(path, module) for module in modules if "test_" in module.rpartition(".")[2][:5]]
    assert found == []


def test_the_folder_that_tests_share_holds_no_test() -> None:
    command = [sys.executable, "-m", "pytest", "tests/support", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 5 and "no tests ran" in ended.stdout, ended.stdout
