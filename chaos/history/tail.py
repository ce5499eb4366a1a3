"""Which task bodies are running now, from the workers' ledger files, read on as they grow."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, KeysView
from contextlib import suppress
from pathlib import Path

import msgspec


class _Line(msgspec.Struct):
    pid: int
    phase: str
    task: str
    execution: str
    t: int = 0
    error: str = ""


class _Open(msgspec.Struct):
    pid: int
    sid: int
    task: str
    t: int


NO_SESSION = -1

_decoder = msgspec.json.Decoder(_Line)


class Growing:
    """The files `<directory>/<prefix>*.jsonl`, to which other processes add lines. Nothing is read twice."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory, self._prefix = directory, prefix
        self._read: dict[str, int] = {}  # file -> how far it was read, bytes

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that were added since the last call."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith(self._prefix) and entry.stat().st_size > self._read.get(entry.name, 0):
                    yield from self._read_on(entry.name)

    def _read_on(self, name: str) -> list[bytes]:
        start = self._read.get(name, 0)
        with (self._directory / name).open("rb") as file:
            file.seek(start)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the rest is still being written
        self._read[name] = start + len(whole)
        return whole.splitlines()


class LedgerTail:
    """Follows `<events>/worker-*.jsonl`. Safe across threads. Only `poll` reads, and it reads each line once."""

    def __init__(self, events: Path) -> None:
        self._files = Growing(events, "worker-")
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._completed: set[str] = set()
        self._touched: dict[str, int] = {}  # task -> last begin or end of its body, monotonic, ns
        self._errors: Counter[tuple[str, int]] = Counter()
        self._raised: set[str] = set()
        self._begun: dict[str, _Open] = {}  # execution -> its begin, until it ends, even if its process died
        self._last_end_t: dict[int, int] = {}  # session -> last completion of a body, ns
        self._lasted_t: dict[str, int] = {}  # task -> longest duration of a body so far, ns
        self.seen = 0
        """Events read so far: while this stands still, no task body begins or ends."""

    def poll(self) -> None:
        """Read the events that were written since the last call."""
        with self._lock:
            for line in self._files.lines():
                # Invalid lines, as from a worker in another language, are reported after the run.
                with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self._take(_decoder.decode(line))
            for one in self._open.values():
                if _session_of(one.pid) == one.sid:
                    self._note_length(one, time.monotonic_ns())

    def open_tasks(self) -> dict[str, int]:
        """Return task -> process for each body that has begun and not ended."""
        with self._lock:
            # A process can die while its session lives: then nothing marks its open bodies as abandoned.
            self._open = {name: one for name, one in self._open.items() if _session_of(one.pid) == one.sid}
            return {execution.task: execution.pid for execution in self._open.values()}

    def open_in_session(self, sid: int) -> dict[str, int]:
        """Return the open tasks of the processes of one session."""
        with self._lock:
            # A child can die while its session lives: it has no session then. `bury` reports a death that was seen.
            ours = [one for one in self._open.values() if one.sid == sid and _session_of(one.pid) == sid]
            return {execution.task: execution.pid for execution in ours}

    def completed_since(self, sid: int, t: int = 0) -> bool:
        """Return whether a body was completed in one of the processes of this session since `t`, ns."""
        with self._lock:
            return self._last_end_t.get(sid, -1) >= t

    def open_since(self, t: int) -> set[str]:
        """Return the tasks whose body ran at any time since `t`, ns of the monotonic clock."""
        tasks = set(self.open_tasks())
        with self._lock:
            return tasks | {task for task, touched_t in self._touched.items() if touched_t >= t}

    def longest_open_s(self, sid: int | None = None) -> float:
        """Return the age, in seconds, of the oldest body that is still open; 0: no body is.

        `sid`: consider only processes of this session.
        """
        now_t = time.monotonic_ns()
        with self._lock:
            ours = [one.t for one in self._open.values() if sid in (None, one.sid)]
            return max((now_t - begun_t for begun_t in ours), default=0) / 1e9

    def errors(self, kind: str, pids: Iterable[int]) -> int:
        """Return how many bodies in these processes ended by an error of this kind, such as `MemoryError`."""
        with self._lock:
            return sum(self._errors[kind, pid] for pid in pids)

    def raised(self) -> frozenset[str]:
        """Return the tasks of which a body ended with an error."""
        with self._lock:
            return frozenset(self._raised)

    def cut_off(self) -> dict[str, int]:
        """Return task -> process for each body without an end whose process is gone."""
        with self._lock:
            return {one.task: one.pid for one in self._begun.values() if _session_of(one.pid) != one.sid}

    def lasted(self, seconds: float) -> frozenset[str]:
        """Return the tasks of which a body took at least this long, or is open and has already taken it."""
        with self._lock:
            return frozenset(task for task, t in self._lasted_t.items() if t >= seconds * 1e9)

    @property
    def begun(self) -> KeysView[str]:
        """Tasks of which a body was seen, with or without an end: a live view, which grows."""
        return self._touched.keys()

    def completed(self) -> frozenset[str]:
        """Return the tasks whose body was completed at least once."""
        with self._lock:
            return frozenset(self._completed)

    @property
    def completed_count(self) -> int:
        with self._lock:
            return len(self._completed)

    def abandon(self, sid: int) -> None:
        """Drop the open bodies of a session that is dead: they will not end."""
        with self._lock:
            self._open = {name: execution for name, execution in self._open.items() if execution.sid != sid}

    def bury(self, pid: int) -> None:
        """Drop the open bodies of a process that is dead while its session lives: they will not end."""
        with self._lock:
            self._open = {name: execution for name, execution in self._open.items() if execution.pid != pid}

    def _take(self, line: _Line) -> None:
        self.seen += 1
        self._touched[line.task] = line.t
        if line.phase == "begin":
            sid = _session_of(line.pid)
            begun = self._begun[line.execution] = _Open(line.pid, NO_SESSION if sid is None else sid, line.task, line.t)
            if sid is not None:
                self._open[line.execution] = begun
            return
        self._open.pop(line.execution, None)
        ended = self._begun.pop(line.execution, None)
        if ended:
            self._note_length(ended, line.t)
        if line.phase == "end":
            self._completed.add(line.task)
            if ended:
                self._last_end_t[ended.sid] = line.t
        else:
            self._errors[line.error.partition(":")[0], line.pid] += 1
            self._raised.add(line.task)

    def _note_length(self, one: _Open, until_t: int) -> None:
        self._lasted_t[one.task] = max(self._lasted_t.get(one.task, 0), until_t - one.t)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # the process is dead: its open bodies will not end
        return None
