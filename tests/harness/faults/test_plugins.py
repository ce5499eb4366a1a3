"""Faults, mutants and targets from outside: from a file of `--plugin`, or an entry point of a distribution."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.places import ROOT
from zeroloss.history import Fault, Process, Run, load
from zeroloss.report.result import read
from zeroloss.target import SHIPPED

FAULT = (ROOT / "docs" / "faults.md").read_text().partition("```python\n")[2].partition("```")[0]
"""The example fault of the documentation: it kills the server."""
MUTANT = '''
from itertools import count

from zeroloss.mutants.mutant import mutant
from zeroloss.mutants.patching import patch
from zeroloss.mutants.profiles import CALM
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted


@mutant(expects="LOST", breaks="I2", profile=CALM)
def forgets_every_other() -> None:
    """Every other task is promised and not pushed."""

    def enqueue(self, submission):
        return original(self, submission) if next(number) % 2 else Accepted(submission.task_id or "none", False)

    number, original = count(), patch(Enqueuer, "enqueue", enqueue)
'''
SMALL = ("--target", "brpop", "--redis", "embedded", "--appendfsync", "off", "--tasks", "150", "--seed", "3")
SMALL += ("--work-ms", "100:200")
"""Bodies long enough that tasks always wait, so a killed server loses some."""


def command(*words: str, at: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `zeroloss` with these words in the folder `at`; `path` has additional installed packages."""
    environment = {**os.environ, "PYTHONPATH": str(path or ""), "COLUMNS": "200"}
    line = [sys.executable, "-m", "zeroloss", *words]
    return subprocess.run(line, cwd=at, env=environment, capture_output=True, text=True, timeout=110, check=False)


def installed(folder: Path, *entry_points: str, **modules: str) -> Path:
    """Install a distribution `acme` 1.5 with these entry points and modules into a folder, for `path` of `command`."""
    folder.mkdir()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    record = folder / "acme-1.5.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.5\n")
    (record / "entry_points.txt").write_text("\n".join(entry_points))
    return folder


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """Assert that the command was refused with status 2 and one sentence, and return the sentence."""
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (sentence,) = ended.stderr.splitlines()
    return sentence


def test_a_fault_in_one_file_is_listed_planned_injected_excused_and_judged_without_that_file(tmp_path: Path) -> None:
    plugin = tmp_path / "power_cut.py"
    plugin.write_text(FAULT)
    listed = command("faults", "--plugin", "power_cut.py", at=tmp_path).stdout
    assert (
        "power-cut:count=1:down_s=5.0\n    SIGKILLs the server and starts it again after a while (I1, I2).\n" in listed
    )
    assert "Aims at server, which is killed. Threatens I1, I2.\n    From power_cut.py.\n" in listed
    words = ("--plugin", "power_cut.py", "--faults", "power-cut:down_s=0.3", "--out", "run")
    ended = command("run", *SMALL, *words, at=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr

    directory = tmp_path / "run"
    assert '"plugins": ["power_cut.py"]' in (directory / "plan.json").read_text()
    result, events = read(directory), load(directory)
    (struck,) = result.faults
    assert (struck.name, struck.state, struck.aims_at) == ("power-cut", "effective", "server")
    assert result.verdict == "EXCUSED"
    assert {excuse.fault.name for excuse in result.excuses} == {"power-cut"}
    assert "power-cut" in (directory / "report.html").read_text()
    assert "power-cut" in (directory / "junit.xml").read_text()
    begun = next(event for event in events if isinstance(event, Fault))
    said = next(event for event in events if isinstance(event, Run)).plan["faults"][0]["traits"]
    assert begun.traits is not None
    assert (begun.traits.ends_server, said["ends_server"]) == ("killed", "killed")

    plugin.unlink()
    checked = command("check", "run", at=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert read(directory) == result
    assert "there is no such Python file" in refused(command("replay", "run/plan.json", "--out", "again", at=tmp_path))


def renumbered(lines: Iterable[str]) -> list[str]:
    """Renumber the lines of a history, so that no line seems to be missing."""
    numbers: Counter[str] = Counter()
    made = []
    for event in map(json.loads, lines):
        if "seq" in event:
            numbers[event["file"]] += 1
            event["seq"] = numbers[event["file"]]
        made.append(json.dumps(event, separators=(",", ":")))
    return made


def test_an_end_of_the_server_that_is_not_on_record_is_judged_by_what_the_fault_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "power_cut.py").write_text(FAULT)
    words = ("--plugin", "power_cut.py", "--faults", "power-cut:down_s=0.3", "--out", "run")
    assert command("run", *SMALL, *words, at=tmp_path).returncode == 0
    history = tmp_path / "run" / "history.jsonl"
    ends = [event for event in load(history.parent) if isinstance(event, Process) and event.role == "server"]
    assert ends
    lines = renumbered(line for line in history.read_text().splitlines() if '"role":"server"' not in line)
    history.write_text("\n".join(lines) + "\n")
    assert command("check", "run", at=tmp_path).returncode == 0
    assert read(history.parent).verdict == "EXCUSED"
    history.write_text(
        "\n".join(line.replace('"ends_server":"killed"', "") for line in lines).replace(",}", "}") + "\n"
    )
    assert command("check", "run", at=tmp_path).returncode == 1


def test_a_fault_of_an_entry_point_is_there_without_being_asked_for_and_the_plan_names_its_distribution(
    tmp_path: Path,
) -> None:
    path = installed(tmp_path / "site", "[zeroloss.faults]", "power-cut = acme_faults", acme_faults=FAULT)
    assert "    From acme==1.5.\n" in command("faults", at=tmp_path, path=path).stdout
    words = ("--faults", "power-cut:down_s=0.3", "--out", "run")
    ended = command("run", *SMALL, *words, at=tmp_path, path=path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"plugins": ["acme==1.5"]' in (tmp_path / "run" / "plan.json").read_text()
    assert command("check", "run", at=tmp_path).returncode == 0
    assert "needs the plug-in acme==1.5, which is not installed" in refused(
        command("replay", "run/plan.json", "--out", "again", at=tmp_path)
    )
    assert command("replay", "run/plan.json", "--out", "again", at=tmp_path, path=path).returncode == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0", "can't be loaded: ZeroDivisionError: division by zero."),
        ("import sys; sys.exit(3)", "can't be loaded: SystemExit: 3."),
        ("from zeroloss.faults import FAULTS", "registers no fault and no mutant"),
        (FAULT.replace('"power-cut"', '"worker-sigkill"'), "there is a fault named 'worker-sigkill' already."),
        (FAULT.replace("    aims_at", "    _"), "the fault PowerCut must define aims_at."),
    ],
    ids=["raises", "exits", "registers nothing", "takes a name", "says too little"],
)
def test_a_plug_in_that_is_invalid_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "odd.py").write_text(text)
    sentence = refused(command("run", *SMALL, "--plugin", "odd.py", "--out", "run", at=tmp_path))
    assert sentence.startswith("zeroloss: --plugin odd.py")
    assert says in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["faults", "mutants", "prove", "compare"])
def test_each_command_that_takes_a_plug_in_refuses_one_that_is_invalid_before_it_begins(
    tmp_path: Path, verb: str
) -> None:
    (tmp_path / "odd.py").write_text("1 / 0")
    assert "odd.py can't be loaded" in refused(command(verb, "--plugin", "odd.py", at=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} <= {"odd.py", "__pycache__"}


def test_a_comparison_has_a_column_for_a_fault_of_a_plug_in(tmp_path: Path) -> None:
    (tmp_path / "power_cut.py").write_text(FAULT)
    words = ("--targets", "brpop", "--plugin", "power_cut.py", "--faults", "power-cut", "--tasks", "60", "--out", "c")
    ended = command("compare", *words, at=tmp_path)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    assert "power-cut" in (tmp_path / "c" / "comparison.md").read_text()
    (cell,) = (tmp_path / "c").glob("cells/*/run/result.json")
    assert '"power-cut"' in cell.read_text()


def test_an_entry_point_that_can_t_be_loaded_is_named_with_its_distribution(tmp_path: Path) -> None:
    path = installed(tmp_path / "site", "[zeroloss.faults]", "gone = acme_gone")
    sentence = refused(command("faults", at=tmp_path, path=path))
    assert "The entry point gone of acme==1.5 in zeroloss.faults can't be loaded" in sentence


def test_a_target_of_an_entry_point_is_listed_and_known_by_its_name(tmp_path: Path) -> None:
    target = "from zeroloss.targets.brpop import Brpop\n\n\nclass Acme(Brpop):\n    '''The queue of Acme.'''\n"
    path = installed(tmp_path / "site", "[zeroloss.targets]", "acme = acme_target:Acme", acme_target=target)
    listed = command("targets", at=tmp_path, path=path).stdout
    assert [name for name in (*SHIPPED, "acme", "The queue of Acme.") if name not in listed] == []
    words = ("--target", "acme", "--redis", "embedded", "--faults", "none", "--tasks", "20", "--out", "run")
    ended = command("run", *words, at=tmp_path, path=path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "There is no target" not in ended.stderr
    assert "acme" in refused(command("run", "--target", "acm", at=tmp_path, path=path))


def test_a_mutant_in_a_file_is_run_beside_the_reference_and_caught(tmp_path: Path) -> None:
    (tmp_path / "forgetful.py").write_text(MUTANT)
    words = ("--plugin", "forgetful.py", "--only", "forgets-every-other", "--out", "mutants")
    ended = command("mutants", *words, at=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    plan = tmp_path / "mutants" / "forgets-every-other-seed1" / "plan.json"
    assert '"plugins": ["forgetful.py"]' in plan.read_text()


def test_a_mutant_under_a_profile_of_its_own_is_refused_as_the_reference_never_passed_there(tmp_path: Path) -> None:
    text = MUTANT.replace("import CALM", "import Profile").replace(
        "profile=CALM", 'profile=Profile(name="mine", faults="none", tasks=5)'
    )
    (tmp_path / "mine.py").write_text(text)
    sentence = refused(command("mutants", "--plugin", "mine.py", "--only", "forgets-every-other", at=tmp_path))
    assert "the profile 'mine' is not one of " in sentence
