"""Each decision record has its status, its date and the same three sections, in half a page."""

import re
from pathlib import Path

import pytest
from support.places import ROOT

FOLDER = ROOT / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("0*.md"))
WORDS_MAX = 300
STATUS = re.compile(r"Status: (accepted|superseded by \[(\d{4})\]\((\2-[\w-]+\.md)\))\. Date: (\d{4}-\d\d-\d\d)\.")


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_has_context_decision_and_consequences_in_half_a_page(record: Path) -> None:
    text = record.read_text()
    title, _, status = text.splitlines()[:3]
    assert title.startswith("# ")
    found = STATUS.fullmatch(status)
    assert found, status
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.split()) <= WORDS_MAX
    later = found[3]
    assert later is None or (FOLDER / later).read_text().splitlines()[2].startswith("Status: accepted")
    row = f"| [{record.name[:4]}]({record.name}) | {title.removeprefix('# ')} | {found[1]} | {found[4]} |"
    assert row in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_names_tests_that_exist(record: Path) -> None:
    _, _, held = record.read_text().rpartition("\nTests: ")
    named = re.findall(r"`(tests/[^`]+)`", held)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
