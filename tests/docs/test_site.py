"""The documentation is a site without broken links, and its generated pages are current."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from markdown.extensions.toc import slugify
from support.places import ROOT
from zeroloss.campaigns.certificate import Certificate
from zeroloss.campaigns.prove import write

LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SITE = ROOT / "ci" / "site"


def test_the_site_builds_strictly_and_shows_the_sources_that_its_pages_link_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "-f", str(SITE / "properdocs.yml")]
    ended = subprocess.run([*command, "-d", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "class Target" in (tmp_path / "source" / "chaos" / "target.py.html").read_text()


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_a_link_of_a_page_beside_the_site_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in {slugify(heading, "-") for heading in HEADING.findall(target.read_text())}, link


def test_the_pages_that_are_made_from_the_code_are_current() -> None:
    command = [sys.executable, str(SITE / "pages.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, f"{ended.stderr}write them again: python ci/site/pages.py"


def test_the_certificate_s_page_shows_what_is_in_its_file(tmp_path: Path) -> None:
    shown = ROOT / "docs" / "certificate"
    write(msgspec.json.decode((shown / "certificate.json").read_bytes(), type=Certificate), tmp_path)
    for name in ("certificate.json", "certificate.html"):
        assert (tmp_path / name).read_text() == (shown / name).read_text(), f"write {name} again"
