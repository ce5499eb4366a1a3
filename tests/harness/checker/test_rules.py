"""Mutation test of the checker: with each of its rules switched off in turn, a hand-written history must fail.

A rule is an `if` statement. It is switched off by a condition that is always false.
"""

import ast
import inspect
import itertools
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zeroloss.checker

FOLDER = Path(zeroloss.checker.__file__).parent
MODULES = (
    "stated",
    "spans",
    "evidence",
    "gaps",
    "findings",
    "excuses",
    "explanations",
    "promises.answers",
    "promises.clocks",
    "promises.retries",
    "promises.lateness",
    "promises.schedules",
    "promises.availability",
    "promises.cuts",
    "promises.time_limit",
    "promises.recoveries",
    "promises.memory",
    "promises.beside",
    "promises.resources",
    "situations",
    "submissions",
    "judge",
)
"""Modules in the order in which they are rebuilt: each imports only earlier ones."""


def _copy_of(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / f"{name.replace('.', '/test_')}.py"
    spec = spec_from_file_location(f"copy_of_{path.stem}", path)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SUITES = [
    _copy_of(name)
    for name in (
        *("checker.judge", "checker.excuses", "checker.explanations", "checker.gaps"),
        *("promises.answers", "promises.lateness", "promises.promises", "promises.availability", "promises.schedules"),
        *(
            "promises.requeue",
            "promises.resources",
            "promises.cuts",
            "promises.time_limit",
            "promises.recoveries",
            "promises.memory",
            "checker.situations",
            "checker.spans",
            "checker.submissions",
        ),
    )
]
"""Copies of the test modules, which are patched here."""
NAMES = ("judge", "gather", "crashes_of", "Covered", "Spans")
"""Names that the test modules import from the checker, and that are replaced by those of the mutated modules."""

HARMLESS = {
    ("evidence", "t is None"),
    ("findings", "fault.effective_t is None"),
}
"""Rules without effect on results: they skip faults that took no effect and hit nothing, which only saves time."""


def _source(module: str) -> str:
    return (FOLDER / f"{module.replace('.', '/')}.py").read_text()


def rules(module: str) -> Iterator[tuple[int, str]]:
    """Yield the index of each `if` in a module, and its condition."""
    found = (node for node in ast.walk(ast.parse(_source(module))) if isinstance(node, ast.If))
    for place, node in enumerate(found):
        yield place, ast.unparse(node.test)


RULES = [
    pytest.param(module, place, id=f"{module}: {asks}")
    for module in MODULES
    for place, asks in rules(module)
    if (module, asks) not in HARMLESS
]


@pytest.mark.parametrize(("module", "place"), RULES)
def test_a_rule_that_is_switched_off_is_caught_by_a_hand_written_history(
    module: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _switch_off(module, place, monkeypatch)
    assert list(itertools.islice(_failures(first=module), 1)), "no history tells the difference"


def test_with_every_rule_in_place_every_history_is_judged_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    _switch_off(MODULES[0], -1, monkeypatch)
    assert list(_failures()) == []


def _switch_off(module: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test modules use rebuilt checker modules, one of which lacks a rule, and all that may import it."""
    made_of: dict[str, Any] = {}
    for name in MODULES[MODULES.index(module) :]:
        tree = ast.parse(_source(name))
        if name == module:
            found = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
            if place >= 0:
                found[place].test = ast.copy_location(ast.Constant(False), found[place].test)
        made = ModuleType(f"zeroloss.checker.{name}")
        made.__package__ = f"zeroloss.checker.{name}".rpartition(".")[0]
        monkeypatch.setitem(sys.modules, f"zeroloss.checker.{name}", made)
        exec(compile(tree, f"{name}.py", "exec"), made.__dict__)
        made_of |= made.__dict__
    for suite in SUITES:
        for name in NAMES:
            if hasattr(suite, name) and name in made_of:
                monkeypatch.setattr(suite, name, made_of[name])


def _failures(first: str = "") -> Iterator[str]:
    """Yield the hand-written histories that are judged differently than expected, or raise; `first` its own ones."""
    suites = sorted(SUITES, key=lambda suite: not suite.__name__.endswith(f"test_{first.rpartition('.')[2]}"))
    for name, test in itertools.chain.from_iterable(vars(suite).items() for suite in suites):
        if name.startswith("test_") and not hasattr(test, "hypothesis"):
            for arguments in _arguments_of(test):
                try:
                    test(**arguments)
                except Exception:  # noqa: BLE001 - a checker that lacks a rule may fail in any way
                    yield f"{name} {list(arguments)}"


def _arguments_of(test: Any) -> Iterator[dict[str, Any]]:
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    if not marks:
        assert not inspect.signature(test).parameters, f"{test.__name__} takes fixtures"
    for chosen in itertools.product(*(_choices_of(*mark.args) for mark in marks)):
        yield {name: value for choice in chosen for name, value in choice.items()}


def _choices_of(names: str | tuple[str, ...], values: Any) -> list[dict[str, Any]]:
    if isinstance(names, str):
        return [{names: value} for value in values]
    return [dict(zip(names, value, strict=True)) for value in values]
