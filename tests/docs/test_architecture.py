"""The architecture page states the correct size of each package."""

import re

import pytest
from support.places import ROOT

SHOWN = dict(re.findall(r"^\| `(\w+)/` \| ([\d,]+) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE))
PACKAGES = [path.parent.name for path in sorted((ROOT / "reference").glob("*/__init__.py"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_lines_of_a_package_are_those_that_the_page_says(package: str) -> None:
    counted = sum(path.read_text().count("\n") for path in (ROOT / "reference" / package).rglob("*.py"))
    assert counted == pytest.approx(int(SHOWN[package].replace(",", "")), rel=0.05)
