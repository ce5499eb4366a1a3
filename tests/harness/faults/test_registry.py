"""The registry of faults: one class in one file defines a fault completely."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import zeroloss
from zeroloss.faults import FAULTS, Effect, Fault, Stage, fault
from zeroloss.faults.behaviours import BEHAVIOURS

PACKAGE = Path(zeroloss.__file__).parent
AT_HOME = ("faults", "mutants", "targets", "starter", "cli", "campaigns")
"""Folders that may name faults: their own, profiles that combine them, and commands that documentation shows."""
CLOSED = PACKAGE / "checker" / "earlier.py"
"""Module with the traits of faults in histories of zeroloss 0.1, which do not record them. It may name faults, too."""
NAMES = FAULTS.keys() - BEHAVIOURS.keys() - {"none", "slow"}
JUDGES = ("checker", "plan", "report", "run")
PREFIXES = {"worker-", "server-", "client-", "net-", "handler-", "primary-", "producer-"}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the string constants of a module, except docstrings, with their lines."""
    tree = ast.parse(path.read_text())
    said = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def modules(*folders: str) -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != CLOSED and (path.relative_to(PACKAGE).parts[0] in folders):
            yield path


def test_no_module_knows_the_name_of_a_fault_that_is_defined_elsewhere() -> None:
    others = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")} - {*AT_HOME, "reference"}
    named = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, NAMES))})(?![\w-])")
    found = [(path, line) for path in modules(*others) for line, text in texts(path) if named.search(text)]
    assert found == []


def test_no_planner_judge_or_report_goes_by_how_the_name_of_a_fault_begins() -> None:
    found = [
        (path, node.lineno)
        for path in modules(*JUDGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "startswith"
        if any(isinstance(one, ast.Constant) and one.value in PREFIXES for one in ast.walk(node))
    ]
    assert found == []


def test_the_checker_can_be_imported_where_there_are_no_faults(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['zeroloss.faults'] = sys.modules['zeroloss.plugins'] = None\n"
        "from zeroloss.checker.judge import judge\n"
        "print(judge([]).verdict)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("INCONCLUSIVE\n", "")


class Draft(Fault):
    """A fault without traits."""

    def inject(self, stage: Stage) -> Effect:
        raise NotImplementedError


def drafted(**members: Any) -> type[Fault]:
    """Return an unregistered fault class with these members."""
    made: type[Fault] = dataclass(frozen=True, kw_only=True)(type("Drafted", (Draft,), members))
    return made


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"name": "drafted"}, "the fault Drafted must define threatens, aims_at"),
        ({"name": "drafted", "threatens": (), "aims_at": "moon"}, "aims at 'moon'; use one of nothing, worker"),
        ({"name": "worker-sigkill", "threatens": (), "aims_at": "worker"}, "there is a fault named 'worker-sigkill'"),
    ],
)
def test_a_fault_that_says_too_little_of_itself_is_not_registered(members: dict[str, Any], says: str) -> None:
    before = dict(FAULTS)
    with pytest.raises((TypeError, ValueError), match=re.escape(says)):
        fault(drafted(**members))
    assert before == FAULTS


def test_a_fault_whose_options_are_not_fields_is_not_registered() -> None:
    class Forgetful(Draft):
        name: ClassVar[str] = "forgetful"
        threatens: ClassVar[tuple[str, ...]] = ()
        aims_at = "server"
        for_s: float = 1.0

    with pytest.raises(TypeError, match="must be a dataclass"):
        fault(Forgetful)
    assert "forgetful" not in FAULTS
