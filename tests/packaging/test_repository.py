"""Files for contributors: they are valid, and agree with the project."""

import configparser
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.places import ROOT
from zeroloss.reference import __version__

FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_the_hooks_before_a_commit_run_the_commands_of_the_lint_environment() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == tox["testenv:lint"]["commands"].split("\n")[1:]
    for hook in local["hooks"]:
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)  # the entry names the files to check


@pytest.mark.parametrize(
    ("schema", "files"),
    [("github-issue-forms", ["bug.yml", "feature.yml"]), ("github-issue-config", ["config.yml"])],
)
def test_the_issue_forms_are_what_github_s_schemas_say(schema: str, files: list[str]) -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", f"vendor.{schema}"]
    paths = [str(FORMS / name) for name in files]
    ended = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_an_issue_form_points_to_the_private_way_for_vulnerabilities() -> None:
    assert {path.name for path in FORMS.iterdir()} == {"bug.yml", "feature.yml", "config.yml"}
    assert "SECURITY.md" in (FORMS / "bug.yml").read_text()
    policy = (ROOT / "SECURITY.md").read_text()
    for word in ("security advisor", "secret", "zeroloss replay", "producer"):
        assert word in policy
    assert "CHANGELOG.md" in (ROOT / ".github" / "pull_request_template.md").read_text()


def test_the_changelog_has_dated_versions_known_sections_and_one_line_for_each_change() -> None:
    title, *lines = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line]
    assert title == "# Changelog"
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", line) for line in headings[1:])
    assert any(line.startswith(f"## [{__version__}]") for line in headings)
    for line in lines[lines.index(headings[0]) :]:
        kept = re.fullmatch(r"## .+|### (Added|Changed|Deprecated|Removed|Fixed|Security)|- .+\.", line)
        assert kept, f"Neither a heading nor a whole change in one line: {line}"


LARGE_FOLDERS = {"chaos/faults/worker", "chaos/targets", "chaos/mutants"}  # each has many files of one kind
SOURCES_MAX = 15


def test_a_folder_holds_no_more_files_than_can_be_read_at_a_glance() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    sources = [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    counts = Counter(str(path.parent) for path in sources if path.name != "__init__.py")
    assert counts["chaos/mutants"] > SOURCES_MAX, "nothing is counted"
    assert {
        folder: count for folder, count in counts.items() if count > SOURCES_MAX and folder not in LARGE_FOLDERS
    } == {}
