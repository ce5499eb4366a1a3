"""`[tool.zeroloss]` in pyproject.toml: a team's defaults, which the command line and the environment override."""

from pathlib import Path

import msgspec
import pytest
from support.places import ROOT
from zeroloss.checker.verdicts import Verdict
from zeroloss.cli import execute
from zeroloss.plan.plan import Plan

SHARED = "[tool.zeroloss]\ntarget = 'brpop'\nredis = 'embedded'\njobs = 3\n"
RUN = "[tool.zeroloss.run]\ntasks = 4\nfaults = 'none'\nrequire_durability = true\ndurability = 'fsync'\nseed = 5\n"


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(*words: str) -> Plan:
    assert execute(["run", "--out", "out", *words]) == 0
    return msgspec.json.decode(Path("out/plan.json").read_bytes(), type=Plan)


def test_a_project_sets_defaults_for_all_commands_and_for_one() -> None:
    Path("pyproject.toml").write_text(SHARED + RUN)
    plan = planned()
    assert (plan.target, len(plan.tasks), plan.seed) == ("brpop", 4, 5)
    assert (plan.require_durability, plan.durability) == (True, "fsync")


def test_the_command_line_and_the_environment_win_over_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("pyproject.toml").write_text(SHARED + RUN)
    monkeypatch.setenv("ZEROLOSS_DURABILITY", "memory")
    plan = planned("--tasks", "6")
    assert (len(plan.tasks), plan.durability) == (6, "memory")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.zeroloss]\nkils = 3\n", "[tool.zeroloss] in pyproject.toml: kils is not an option of these commands"),
        ("[tool.zeroloss.prove]\ntasks = 3\n", "tasks is not an option of `zeroloss prove`"),
        ("[tool.zeroloss.run]\nout = 'x'\n", "out is not an option of `zeroloss run` with a default"),
        ("[tool.zeroloss.run]\ntasks = 'many'\n", "many"),
        ("[tool]\nzeroloss = 3\n", "zeroloss in pyproject.toml must be a table, not 3."),
        ("[tool.zeroloss\n", "pyproject.toml can't be read"),
    ],
)
def test_a_default_that_is_invalid_is_refused_in_one_sentence(
    text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pyproject.toml").write_text(text)
    assert execute(["run", "--target", "brpop", "--redis", "embedded", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not Path("out").exists()


def test_commands_without_defaults_do_not_read_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text("[tool.zeroloss]\nkils = 3\n")
    assert execute(["faults"]) == 0


def test_the_documentation_lists_each_verdict_with_its_exit_status() -> None:
    page = (ROOT / "docs/harness.md").read_text()
    section = page.partition("## Exit codes and verdicts")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert {name: status for name, status in rows if name in list(Verdict)} == {
        verdict.value: str(verdict.exit_code) for verdict in Verdict
    }
