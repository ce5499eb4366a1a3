"""`zeroloss init`: from a repository to a build that names the lost task, and, after the repair, to a green build."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.places import ROOT
from support.processes.programs import run_pytest, tool
from zeroloss.cli import execute
from zeroloss.starter.write import TARGET, TEST, WORKFLOW, explore

EXAMPLE = ROOT / "ci" / "example"
RECOVER_WITHIN = ("--recover-within", "2")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The example's repository without zeroloss."""
    copy = tmp_path / "theirs"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", "tests", ".github", "zeroloss-runs"))
    (copy / "before.py").replace(copy / "mailqueue" / "worker.py")
    return copy


@pytest.mark.timeout(220)
def test_the_example_goes_from_init_to_a_build_that_names_the_lost_task_and_cured_to_a_green_one(theirs: Path) -> None:
    assert execute(["init", str(theirs), *RECOVER_WITHIN]) == 0
    written = (theirs / TEST).read_text()
    options = ("--zeroloss-backend=embedded", "--zeroloss-seed=1", "tests")
    failed = run_pytest(theirs, written, *options, name=str(TEST))
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert re.search(r"^VIOLATION: \d tasks? (was|were) promised and lost \(LOST\)\.$", failed.stdout, re.M)
    assert re.search(r"^zl-1-\d{7}: LOST$", failed.stdout, re.M)
    shutil.copy(EXAMPLE / "mailqueue" / "worker.py", theirs / "mailqueue" / "worker.py")
    cured = run_pytest(theirs, written, *options, name=str(TEST))
    assert cured.returncode == 0, cured.stdout + cured.stderr


def test_the_example_s_files_are_what_init_writes_there(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["init", str(theirs), *RECOVER_WITHIN]) == 0
    said = capsys.readouterr().out
    assert "found    worker python -m mailqueue.worker, tasks by mailqueue.client.enqueue(payload)" in said
    assert "to do" not in said
    for path in (TARGET, TEST, WORKFLOW):
        assert (theirs / path).read_text() == (EXAMPLE / path).read_text(), path


def test_runs_are_kept_out_of_the_repository_and_what_is_ignored_already_stays(theirs: Path) -> None:
    (theirs / ".gitignore").write_text("*.pyc\n/zeroloss-runs/")
    assert execute(["init", str(theirs)]) == 0
    assert (theirs / ".gitignore").read_text() == "*.pyc\n/zeroloss-runs/\n/zeroloss-report/\n"


@pytest.mark.parametrize("language", ["python", "shell"])
def test_the_workflow_that_it_writes_is_valid_and_safe(theirs: Path, language: str) -> None:
    assert execute(["init", str(theirs), "--language", language]) == 0
    tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", theirs / WORKFLOW)
    tool("zizmor", "--offline", "--no-progress", "--strict-collection", theirs / WORKFLOW)


@pytest.mark.parametrize(
    ("direct_url", "requirement"),
    [
        (None, "zeroloss==7.8"),
        (
            {"url": "https://host/z.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "zeroloss @ git+https://host/z.git@c0ffee",
        ),
        (
            {"url": "https://host/z.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}, "subdirectory": "lib"},
            "zeroloss @ git+https://host/z.git@c0ffee#subdirectory=lib",
        ),
        (
            {"url": "https://host/z.whl", "archive_info": {"hashes": {"sha256": "abc"}}},
            "zeroloss @ https://host/z.whl#sha256=abc",
        ),
        ({"url": "https://me:secret@host/z.whl", "archive_info": {}}, ""),
        ({"url": "file:///home/me/zeroloss", "dir_info": {"editable": True}}, ""),
        ({"url": "file:///home/me/zeroloss.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}, ""),
    ],
    ids=["an index", "git", "a folder of git", "a wheel's URL", "a URL with a password", "a path", "a local git"],
)
def test_the_workflow_installs_zeroloss_from_where_this_one_came_or_says_what_to_fill_in(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct_url: Any, requirement: str
) -> None:
    record = tmp_path / "site" / "zeroloss-7.8.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: zeroloss\nVersion: 7.8\n")
    (record / "INSTALLER").write_text("pip\n")
    if direct_url:
        (record / "direct_url.json").write_text(json.dumps(direct_url))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert execute(["init", str(theirs)]) == 0
    (step,) = [step for step in steps_of(theirs / WORKFLOW) if step.get("name") == "Install"]
    assert step["env"] == {"ZEROLOSS_REQUIREMENT": requirement}
    assert ("To fill in" in (theirs / WORKFLOW).read_text()) == (requirement == "")
    program = tmp_path / "bin" / "python"  # in place of pip: it prints its arguments
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:/usr/bin:/bin"
    ended = subprocess.run(
        ["sh", "-ec", step["run"]], env={**step["env"], "PATH": path}, capture_output=True, text=True, check=False
    )
    if requirement:
        assert ended.stdout == f"-m|pip|install|{requirement}|.|"
    else:
        assert ended.returncode != 0
        assert "fill in" in ended.stderr


def steps_of(workflow: Path) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"]["zeroloss"]["steps"]
    return steps


def test_nothing_is_written_over(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (theirs / TEST).parent.mkdir()
    (theirs / TEST).write_text("mine")
    assert execute(["init", str(theirs)]) == 2
    assert f"{theirs / TEST} exists and is not overwritten: remove it first." in capsys.readouterr().err
    assert (theirs / TEST).read_text() == "mine"
    assert not (theirs / TARGET).exists()


def test_where_no_queue_is_found_the_starter_runs_as_written_with_a_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["init", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "missing" in said
    assert "zeroloss.ledger.effect" in said
    command = [sys.executable, "-m", "zeroloss", "run", "--target", f"{TARGET}:MyQueue", "--faults", "none"]
    command += ["--redis", "embedded", "--tasks", "20", "--seed", "1", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("", ["one module with worker in its name", "one function enqueue(payload)"]),
        ("if __name__ == '__main__':\n    print()\n", ["one function enqueue(payload)"]),
        ("def enqueue(payload): ...\n", ["one module with worker in its name that runs as a program"]),
    ],
    ids=["nothing", "a worker", "a client"],
)
def test_a_part_that_was_not_found_is_named_and_the_stand_in_is_said_to_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, missing: list[str]
) -> None:
    (tmp_path / "worker.py").write_text(source)
    assert execute(["init", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    named = [line.removeprefix("  missing  ") for line in said if line.startswith("  missing")]
    assert len(named) == len(missing)
    assert all(line.startswith(words) for line, words in zip(named, missing, strict=True))
    assert any("VIOLATION" in line for line in said)


def test_a_queue_that_was_found_has_no_note_on_a_stand_in(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["init", str(theirs)]) == 0
    assert "VIOLATION" not in capsys.readouterr().out


def test_a_queue_found_twice_or_unreadable_is_not_guessed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "src" / name).mkdir(parents=True)
        (tmp_path / "src" / name / "worker.py").write_text("if __name__ == '__main__':\n    print()\n")
    (tmp_path / "src" / "one" / "api.py").write_text(
        "def enqueue(payload, key): ...\ndef send(payload, *, key): ...\ndef submit(payload, key=None): ...\n"
    )
    (tmp_path / "broken.py").write_text("def enqueue(")
    (tmp_path / "requirements.txt").touch()
    found = explore(tmp_path)
    assert found.worker is None
    assert found.enqueue == ("one.api", "submit")
    assert found.requirements == " -r requirements.txt"


@pytest.mark.parametrize("name", ["src.py", "src/__init__.py", "__init__.py", "scripts/send-mail.py", "class/api.py"])
def test_a_module_that_cannot_be_imported_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("def enqueue(payload): ...\n")
    assert explore(tmp_path).enqueue is None
