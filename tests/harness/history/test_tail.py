"""The ledger's tail: the current state of task bodies, read from growing files."""

import json
import os
from pathlib import Path

from zeroloss.history.tail import LedgerTail

DEAD = 2**22 + 1  # larger than any pid


def line(phase: str, task: str, execution: str | None = None, pid: int | None = None) -> str:
    event = {"t": 1, "pid": pid or os.getpid(), "kind": "effect", "phase": phase, "task": task}
    return json.dumps({**event, "execution": execution or f"{task}-1"}) + "\n"


def append(directory: Path, text: str, name: str = "worker-1.jsonl") -> None:
    with (directory / name).open("a") as file:
        file.write(text)


def test_a_task_is_open_from_its_begin_to_its_end(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    append(tmp_path, line("begin", "a"))
    tail.poll()
    assert tail.open_in_session(os.getsid(0)) == {"a": os.getpid()}
    append(tmp_path, line("end", "a"))
    tail.poll()
    assert tail.open_tasks() == {}
    assert tail.completed() == {"a"}


def test_an_error_closes_a_task_and_does_not_complete_it(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    append(tmp_path, line("begin", "a") + line("error", "a"))
    tail.poll()
    assert (tail.open_tasks(), tail.completed()) == ({}, frozenset())


def test_errors_are_counted_by_their_kind_and_by_the_process_that_they_ended_a_body_in(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    for number, (pid, error) in enumerate([(7, "MemoryError: "), (8, "MemoryError: "), (7, "OSError: full")]):
        failed = json.loads(line("error", f"t{number}", pid=pid)) | {"error": error}
        append(tmp_path, line("begin", f"t{number}", pid=pid) + json.dumps(failed) + "\n")
    tail.poll()
    assert [tail.errors("MemoryError", pids) for pids in ([7], [7, 8], [9])] == [1, 2, 0]


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    text = line("begin", "a")
    append(tmp_path, text[:20])
    tail.poll()
    assert tail.seen == 0
    append(tmp_path, text[20:])
    tail.poll()
    assert (tail.seen, set(tail.open_tasks())) == (1, {"a"})


def test_nothing_is_read_twice_and_new_files_are_found(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    append(tmp_path, line("begin", "a"))
    tail.poll()
    tail.poll()
    append(tmp_path, line("begin", "b"), name="worker-2.jsonl")
    append(tmp_path, "this is not the ledger's\n", name="harness-3.jsonl")
    tail.poll()
    assert (tail.seen, set(tail.open_tasks())) == (2, {"a", "b"})


def test_a_task_that_a_dead_process_had_begun_is_not_open(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    append(tmp_path, line("begin", "a", pid=DEAD))
    tail.poll()
    assert tail.open_tasks() == {}


def test_a_task_that_an_abandoned_session_had_begun_is_not_open(tmp_path: Path) -> None:
    tail = LedgerTail(tmp_path)
    append(tmp_path, line("begin", "a"))
    tail.poll()
    tail.abandon(os.getsid(0))
    assert tail.open_tasks() == {}
