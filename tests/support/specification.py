"""List the tests of each law: `PYTHONPATH=.:tests python -m support.specification` writes the page.

A test names its laws with `@pytest.mark.law("I3")`. The test files are parsed here, not run.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from zeroloss.invariants import INVARIANTS

from support.places import ROOT, TESTS

PAGE = ROOT / "docs" / "specification.md"
HEAD = """# The specification

Each law, and the tests that hold the queue to it. The harness holds a whole run of any queue to the same laws
(`chaos/checker/`). This page is written by `PYTHONPATH=.:tests python -m support.specification`, from the marks
`@pytest.mark.law(...)` of the tests; a test sees that it is current.
"""


def page() -> str:
    """Return the page that matches the current tests."""
    held: dict[str, dict[Path, list[str]]] = {number: {} for number in INVARIANTS}
    for path in sorted(TESTS.rglob("test_*.py")):
        for sentence, numbers in sentences(path):
            for number in numbers:
                held[number].setdefault(path, []).append(sentence)
    parts = [HEAD]
    for number, law in INVARIANTS.items():
        parts.append(f"## {number}: {law.title}\n\n{law.law}\n")
        for path, told in held[number].items():
            lines = "".join(f"- {sentence}\n" for sentence in told)
            parts.append(f"`{path.relative_to(ROOT)}`\n\n{lines}")
    return "\n".join(parts)


def sentences(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each test marked with laws: its name as a sentence, and the numbers of the laws."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.law":
                    yield (
                        node.name.removeprefix("test_").replace("_", " "),
                        [ast.literal_eval(one) for one in mark.args],
                    )


if __name__ == "__main__":
    PAGE.write_text(page())
