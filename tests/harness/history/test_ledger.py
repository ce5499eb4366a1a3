"""The ledger, which task bodies call: it works in an environment without other packages."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zeroloss
from zeroloss.history import Effect, read
from zeroloss.ledger import digest, effect


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROLOSS_LEDGER", str(tmp_path))
    return tmp_path


def effects(directory: Path) -> list[Effect]:
    return [event for event in read(directory) if isinstance(event, Effect)]


def test_a_body_that_returns_is_a_begin_and_an_end_of_one_execution(directory: Path) -> None:
    with effect("a", attempt=2, payload={"n": 1}):
        (begin,) = effects(directory)
    _, end = effects(directory)
    assert (begin.phase, begin.task, begin.attempt, begin.digest) == ("begin", "a", 2, digest({"n": 1}))
    assert (end.phase, end.task, end.execution) == ("end", "a", begin.execution)
    assert begin.pid == os.getpid()
    assert (directory / f"worker-{os.getpid()}.jsonl").exists()


def test_a_payload_as_bytes_is_kept_by_the_digest_of_these_bytes(directory: Path) -> None:
    with effect("a", payload=b'{"n": 1.10}'):
        (begin,) = effects(directory)
    assert begin.digest == hashlib.sha256(b'{"n": 1.10}').hexdigest()
    assert digest(b'{"n": 1.10}') != digest(b'{"n": 1.1}')


def test_two_executions_of_one_task_have_different_names(directory: Path) -> None:
    for _ in range(2):
        with effect("a"):
            pass
    assert len({event.execution for event in effects(directory)}) == 2


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), ValueError("\ud800")])
def test_any_exception_of_the_body_is_recorded_and_raised_again(directory: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, effect("a"):
        raise error
    assert caught.value is error
    last = effects(directory)[-1]
    text = str(error).replace("\ud800", "\\ud800")
    assert (last.phase, last.error) == ("error", f"{type(error).__name__}: {text}")


def test_the_text_of_an_error_is_bounded(directory: Path) -> None:
    with pytest.raises(ValueError, match="x"), effect("a"):
        raise ValueError("x" * 10_000)
    assert len(effects(directory)[-1].error or "") == 500


def test_without_the_variable_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZEROLOSS_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    with effect("a", payload=object()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_evidence_that_cannot_be_written_stops_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROLOSS_LEDGER", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError), effect("a"):
        pytest.fail("the body ran unseen")


def test_a_forked_child_writes_to_a_file_of_its_own(directory: Path) -> None:
    with effect("parent"):
        pass
    child = os.fork()
    if child == 0:
        try:
            with effect("child"):
                pass
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    by_pid = {event.pid: event.task for event in effects(directory)}
    assert by_pid == {os.getpid(): "parent", child: "child"}
    assert (directory / f"worker-{child}.jsonl").exists()


def test_threads_never_share_an_execution_or_mix_lines(directory: Path) -> None:
    def work(number: int) -> None:
        for turn in range(50):
            with effect(f"{number}-{turn}"):
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event.execution for event in effects(directory)}) == 400
    assert len(effects(directory)) == 800


def test_the_digest_is_the_sha256_of_canonical_json() -> None:
    assert digest({"b": 1, "a": ["é", None]}) == hashlib.sha256(b'{"a":["\\u00e9",null],"b":1}').hexdigest()
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(1) != digest(1.0)


def test_a_null_payload_has_a_digest_and_no_payload_has_none(directory: Path) -> None:
    with effect("null", payload=None):
        pass
    with effect("none"):
        pass
    digests = {event.task: event.digest for event in effects(directory) if event.phase == "begin"}
    assert digests == {"null": digest(None), "none": None}


def test_the_ledger_runs_alone_without_any_installed_library(tmp_path: Path) -> None:
    package = tmp_path / "elsewhere" / "zeroloss"
    package.mkdir(parents=True)
    source = Path(zeroloss.__file__).parent
    for name in ("__init__.py", "ledger.py", "target.py"):
        shutil.copy(source / name, package / name)
    script = "from zeroloss.ledger import effect\nwith effect('a', payload=[1]): pass\n"
    # -I -S: no site-packages and no PYTHONPATH, only the standard library.
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(package.parent)!r})\n{script}"]
    subprocess.run(command, env={"ZEROLOSS_LEDGER": str(tmp_path)}, check=True, timeout=30)
    assert [event.phase for event in effects(tmp_path)] == ["begin", "end"]


def test_the_payload_itself_is_recorded_of_the_first_executions_and_if_it_is_short(tmp_path: Path) -> None:
    script = (
        "from zeroloss.ledger import effect\n"
        "for payload in (b'{\"n\": 1.10}', {'b': 1, 'a': 2}, 'x' * 5000, 4):\n"
        "    with effect('a', payload=payload): pass\n"
    )
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "ZEROLOSS_LEDGER": str(tmp_path)}, check=True)
    begun = [event for event in effects(tmp_path) if event.phase == "begin"]
    assert [event.payload for event in begun] == ['{"n": 1.10}', '{"a":2,"b":1}', None, None]
    assert all(event.digest for event in begun)
