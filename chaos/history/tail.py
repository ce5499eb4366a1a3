"""What the task bodies are doing now: the workers' ledger files, read on as they grow."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, KeysView
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
        """What was added since the last time, as far as it is whole."""
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
    """Follows `<events>/worker-*.jsonl`. Safe across threads; nothing is read but by `poll`, and nothing twice."""

    def __init__(self, events: Path) -> None:
        self._files = Growing(events, "worker-")
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._completed: set[str] = set()
        self._touched: dict[str, int] = {}  # task -> when its body began or ended last, monotonic, ns
        self._errors: Counter[str] = Counter()
        self._raised: set[str] = set()
        self._begun: dict[str, _Open] = {}  # whatever became of its process
        self._last_end_t: dict[int, int] = {}  # session -> when one of its bodies came to its end last, ns
        self._lasted_t: dict[str, int] = {}  # task -> the longest that one of its bodies was seen to take, ns
        self.seen = 0
        """Events read so far: while this stands still, no task body begins or ends."""

    def poll(self) -> None:
        """Read what was written since the last time."""
        with self._lock:
            for line in self._files.lines():
                # What a worker in another language got wrong is reported once the run is over.
                with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self._take(_decoder.decode(line))
            for one in self._open.values():
                if _session_of(one.pid) == one.sid:
                    self._note_length(one, time.monotonic_ns())

    def open_tasks(self) -> dict[str, int]:
        """Tasks whose body has begun and not ended, and the process that is in it."""
        with self._lock:
            # A process can die without its session: then nothing marks what it had begun as abandoned.
            self._open = {name: one for name, one in self._open.items() if _session_of(one.pid) == one.sid}
            return {execution.task: execution.pid for execution in self._open.values()}

    def open_in_session(self, sid: int) -> dict[str, int]:
        """The open tasks of the processes of one session."""
        with self._lock:
            # A child can die without its session, and is then nobody's; bury() tells of one that is seen to.
            ours = [one for one in self._open.values() if one.sid == sid and _session_of(one.pid) == sid]
            return {execution.task: execution.pid for execution in ours}

    def completed_since(self, sid: int, t: int = 0) -> bool:
        """Whether a body has come to its end in one of the processes of this session since `t`, ns."""
        with self._lock:
            return self._last_end_t.get(sid, -1) >= t

    def open_since(self, t: int) -> set[str]:
        """The tasks whose body ran at any moment since `t`: of the monotonic clock, ns."""
        tasks = set(self.open_tasks())
        with self._lock:
            return tasks | {task for task, touched_t in self._touched.items() if touched_t >= t}

    def longest_open_s(self, sid: int | None = None) -> float:
        """How long the task that has been in its body the longest has been there; 0: there is none.

        `sid`: of the processes of this session.
        """
        now_t = time.monotonic_ns()
        with self._lock:
            ours = [one.t for one in self._open.values() if sid in (None, one.sid)]
            return max((now_t - begun_t for begun_t in ours), default=0) / 1e9

    def errors(self, kind: str) -> int:
        """How many bodies have ended by an error of this kind, such as `MemoryError`."""
        with self._lock:
            return self._errors[kind]

    def raised(self) -> frozenset[str]:
        """The tasks of which a body has ended by an error."""
        with self._lock:
            return frozenset(self._raised)

    def cut_off(self) -> dict[str, int]:
        """The tasks of which a body has begun in a process that is gone, without an end; and that process."""
        with self._lock:
            return {one.task: one.pid for one in self._begun.values() if _session_of(one.pid) != one.sid}

    def lasted(self, seconds: float) -> frozenset[str]:
        """The tasks of which a body was seen to take that long, or to have taken that long already."""
        with self._lock:
            return frozenset(task for task, t in self._lasted_t.items() if t >= seconds * 1e9)

    @property
    def begun(self) -> KeysView[str]:
        """Tasks of which a body was seen, whatever became of it: a view, which grows."""
        return self._touched.keys()

    def completed(self) -> frozenset[str]:
        """Tasks whose body has ended at least once."""
        with self._lock:
            return frozenset(self._completed)

    @property
    def completed_count(self) -> int:
        with self._lock:
            return len(self._completed)

    def abandon(self, sid: int) -> None:
        """The session is dead: what it had open will not end any more."""
        with self._lock:
            self._open = {name: execution for name, execution in self._open.items() if execution.sid != sid}

    def bury(self, pid: int) -> None:
        """This process is dead, though its session lives: what it had open will not end any more."""
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
            self._errors[line.error.partition(":")[0]] += 1
            self._raised.add(line.task)

    def _note_length(self, one: _Open, until_t: int) -> None:
        self._lasted_t[one.task] = max(self._lasted_t.get(one.task, 0), until_t - one.t)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it is dead already, and what it began will not end
        return None
