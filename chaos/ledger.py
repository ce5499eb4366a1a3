"""`effect`, which a task body calls, so that the harness knows, from outside the broker, what was executed.

    with effect(task_id, attempt=attempt, payload=payload):
        ...  # the work

docs/ledger.md describes the events that it writes, for other languages too. Standard library only: this file is
imported inside the environment of the queue under test. Without `ZEROLOSS_LEDGER` in the environment `effect` does
nothing at all, so that the same application runs in production.
"""

import contextlib
import hashlib
import itertools
import json
import os
import time
from types import TracebackType

DIRECTORY_VARIABLE = "ZEROLOSS_LEDGER"
ERROR_CHARACTERS_MAX = 500

SHOWN_CALLS, SHOWN_BYTES_MAX = 3, 4_096
"""Number of executions of a process whose payload itself is recorded, and its maximum size in bytes: the report can
then name the difference from what was submitted."""

_NOT_GIVEN = object()
_calls = itertools.count(1)
# (pid, directory) -> (file descriptor, prefix of the execution names). The pid is part of the key because a forked
# child inherits this dictionary and must not write to its parent's file. There is no lock that a fork could leave
# locked.
_files: dict[tuple[int, str], tuple[int, str]] = {}


def digest(payload: object) -> str:
    """Return the SHA-256, in hex, of canonical JSON (sorted keys, no spaces, ASCII), or of bytes as they are.

    Raises TypeError if the payload can't be JSON.
    """
    return hashlib.sha256(_text(payload)).hexdigest()


def effect(
    task_id: str, *, attempt: int | None = None, payload: object = _NOT_GIVEN
) -> contextlib.AbstractContextManager[None]:
    """Record that the body of this task begins, and that it ends or raises (I2, I6).

    `attempt` is the number of this delivery, or its fencing token, if the queue provides it. `payload` is the payload
    that arrived: a value is compared by digest with the submitted one, JSON text as bytes byte for byte. Raises OSError
    if the evidence can't be written: work without a record would be reported as lost.
    """
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return contextlib.nullcontext()
    return _Effect(directory, _encodable(str(task_id)), attempt, None if payload is _NOT_GIVEN else _text(payload))


class _Effect(contextlib.AbstractContextManager[None]):
    def __init__(self, directory: str, task: str, attempt: int | None, text: bytes | None) -> None:
        self._directory = directory
        self._task = task
        self._attempt = attempt
        self._text = text
        self._execution = ""

    def __enter__(self) -> None:
        _, prefix = _file(self._directory)
        number = next(_calls)
        self._execution = f"{prefix}-{number}"
        text, members = self._text, dict[str, object]()
        if text is not None:
            members["digest"] = hashlib.sha256(text).hexdigest()
            if number <= SHOWN_CALLS and len(text) <= SHOWN_BYTES_MAX:
                members["payload"] = text.decode("utf-8", "replace")
        self._write("begin", attempt=self._attempt, **members)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._write("end")
        else:
            # An exception without a text still has a name.
            self._write("error", error=_encodable(f"{kind.__name__}: {error}"[:ERROR_CHARACTERS_MAX]))

    def _write(self, phase: str, **members: object) -> None:
        fd, _ = _file(self._directory)
        event: dict[str, object] = {
            "t": time.monotonic_ns(),
            "pid": os.getpid(),
            "kind": "effect",
            "phase": phase,
            "task": self._task,
            "execution": self._execution,
        }
        event.update((name, member) for name, member in members.items() if member is not None)
        line = json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n"
        if os.write(fd, line) != len(line):
            raise OSError("an event of the ledger could not be written in full")


def _text(payload: object) -> bytes:
    """Return canonical JSON; bytes as they are."""
    if isinstance(payload, bytes):
        return payload
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _file(directory: str) -> tuple[int, str]:
    key = (os.getpid(), directory)
    known = _files.get(key)
    if known is not None:
        return known
    path = os.path.join(directory, f"worker-{key[0]}.jsonl")  # noqa: PTH118 - pathlib costs start-up time in a worker
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    # Random, because the next process may get the same pid.
    opened = (fd, f"{key[0]}-{os.urandom(4).hex()}")
    kept = _files.setdefault(key, opened)
    if kept is not opened:
        os.close(fd)
    return kept


def _encodable(text: str) -> str:
    """Escape lone surrogates, as in an error about a strange file name: a reader of JSON may refuse them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
