"""The history of a run: what every process says it did, as JSON lines outside the broker.

Each process writes its own file, `<run>/events/<role>-<pid>.jsonl`, one `O_APPEND` write per event, the invocation
before the act and the outcome after it. `<run>/history.jsonl` is all of them merged by `t`.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from .masking import masked

EVENTS_DIRECTORY = "events"
MERGED_NAME = "history.jsonl"

CensusAfter = Literal["deadline", "poke", "restart", "end"]
Place = Literal["pending", "delayed", "processing", "dead_letter", "failed", "unknown"]
_FREE_TEXT = {"error", "evidence", "reason"}
"""Members that may cite what others have said, with a password in it."""


class HistoryError(Exception):
    """A history that can't be read or an event that breaks the contract; the text is one sentence for the user."""


class _Event(
    msgspec.Struct, tag_field="kind", omit_defaults=True, forbid_unknown_fields=True, kw_only=True, frozen=True
):
    """Common to all events: `t` is CLOCK_MONOTONIC in ns, `pid` the process that wrote it."""

    t: int
    pid: int


class Run(_Event, tag="run", kw_only=True, frozen=True):
    """The run itself. Everything but the phase is given at `begin` only."""

    kind: ClassVar[str] = "run"
    phase: Literal["begin", "healed", "drained", "deadline", "void", "end"]
    seed: int | None = None
    target: str | None = None
    command: Any = None
    """What was run: a list of arguments, or a line for a shell."""
    repeat: list[str] = []
    """What repeats it: a list of arguments; empty: `command` does."""
    recover_within: float | None = None
    """Seconds after which the target promises a dead worker's task again."""
    plan: Any = None
    """If it is a mapping, its `faults` lists one mapping per planned fault, with `number` and `fault`."""
    versions: Any = None
    server: Any = None
    network: Any = None
    """Where workers reached the server through the proxy: what that costs, with a `sentence`."""
    durability: Any = None
    reason: str | None = None
    """Why nothing can be said of the queue, at `void`: what its clients saw of the server was nobody's plan."""


class Submit(_Event, tag="submit", kw_only=True, frozen=True):
    """One submission. ok: promised; fail: a definite no; info: unknown."""

    kind: ClassVar[str] = "submit"
    phase: Literal["invoke", "ok", "fail", "info"]
    task: str
    digest: str | None = None
    error: str | None = None


class Effect(_Event, tag="effect", kw_only=True, frozen=True):
    """One execution of a task's body, as `zeroloss.ledger.effect` saw it; `execution` is unique per call."""

    kind: ClassVar[str] = "effect"
    phase: Literal["begin", "end", "error"]
    task: str
    execution: str
    attempt: int | None = None
    digest: str | None = None
    error: str | None = None


class Process(_Event, tag="process", kw_only=True, frozen=True):
    """A process that the harness started or saw end. `sid` names it: it leads a session of its own."""

    kind: ClassVar[str] = "process"
    phase: Literal["start", "exit"]
    role: str
    sid: int | None = None
    status: int | None = None
    """Exit status; negative: the signal that ended it."""
    wanted: bool | None = None
    """True when the harness did it."""


class Fault(_Event, tag="fault", kw_only=True, frozen=True):
    """One planned fault. It counts only once it was seen to take effect."""

    kind: ClassVar[str] = "fault"
    phase: Literal["begin", "effective", "missed", "end"]
    fault: str
    number: int
    evidence: str | None = None
    pids: list[int] = []
    tasks: list[str] = []
    """Ids that were in flight when it hit."""
    reason: str | None = None


class Poke(_Event, tag="poke", kw_only=True, frozen=True):
    """What the harness did at the deadline before it says STUCK: one new task, or a restarted worker."""

    kind: ClassVar[str] = "poke"
    phase: Literal["task", "restart"]
    task: str | None = None


class Census(_Event, tag="census", kw_only=True, frozen=True):
    """What lies in the broker: one `found` per task, then one `done`."""

    kind: ClassVar[str] = "census"
    phase: Literal["found", "done"]
    task: str | None = None
    place: Place | None = None
    reason: str | None = None
    after: CensusAfter | None = None
    source: Literal["target", "scan"] | None = None
    count: int | None = None


class Harness(_Event, tag="harness", kw_only=True, frozen=True):
    """The harness came late by itself: the machine was starved, from `late_ms` before `t`."""

    kind: ClassVar[str] = "harness"
    phase: Literal["late"]
    late_ms: int


class Load(_Event, tag="load", kw_only=True, frozen=True):
    """What Locust says of its traffic: one second of it, or, at its end, which of its thresholds it kept to."""

    kind: ClassVar[str] = "load"
    phase: Literal["second", "end"]
    requests: int = 0
    """Within the second that ended at `t`, whatever they carried and whatever came of them."""
    failures: int = 0
    p95_ms: float | None = None
    seconds: float | None = None
    """At the end: how long it sent."""
    kept: list[str] = []
    broken: list[str] = []
    """A sentence for each threshold."""


Event = Run | Submit | Effect | Process | Fault | Poke | Census | Harness | Load

_decoder = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()


class History(list[Event]):
    """Events ordered by `t`; `torn` counts the last lines that were cut off in mid-write."""

    torn: int = 0


class Recorder:
    """Writes the events of this process to `<directory>/<role>-<pid>.jsonl`; safe across threads.

    `directory` is the run's `events` directory. Raises OSError when an event can't be written in full: evidence that is
    silently incomplete would be worse than a run that stops.
    """

    def __init__(self, directory: Path | str, role: str) -> None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._pid = os.getpid()
        self.path = directory / f"{role}-{self._pid}.jsonl"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def record(self, kind: str, phase: str, **members: Any) -> Event:
        """Write one event, now, and return it. Members that are None are left out.

        `pid=` stands for another process than this one. Raises HistoryError when the event breaks the contract.
        """
        given = {
            name: _encodable(masked(member) if name in _FREE_TEXT else member)
            for name, member in members.items()
            if member is not None
        }
        try:
            event: Event = msgspec.convert(
                {"pid": self._pid, **given, "t": time.monotonic_ns(), "kind": kind, "phase": phase}, Event
            )
        except msgspec.ValidationError as error:
            raise HistoryError(f"A {kind} {phase} event breaks the contract: {error}.") from None
        line = _encoder.encode(event) + b"\n"
        # One write: O_APPEND makes it atomic against other threads, and a kill tears at most the last line.
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(f"Only {written} of {len(line)} bytes of an event could be written to {self.path.name}.")
        return event

    def close(self) -> None:
        os.close(self._fd)


def read(directory: Path | str) -> History:
    """The events of the `*.jsonl` files in `directory`, ordered by `t`, and by their place in a file if `t` is equal.

    A last line that was cut off is left out and counted. Raises HistoryError, naming file and line, for any other line
    that isn't an event.
    """
    lines, torn = _lines_by_time(Path(directory))
    history = History(event for event, _ in lines)
    history.torn = torn
    return history


def write_merged(run_directory: Path | str) -> Path:
    """Merge `<run>/events/*.jsonl` into `<run>/history.jsonl`, which appears whole or not at all; returns its path."""
    run_directory = Path(run_directory)
    lines, _ = _lines_by_time(run_directory / EVENTS_DIRECTORY)
    merged = run_directory / MERGED_NAME
    fd, temporary = tempfile.mkstemp(prefix=f".{MERGED_NAME}.", dir=run_directory)
    try:
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(fd, 0o644)
            stream.writelines(line + b"\n" for _, line in lines)
            stream.flush()
            os.fsync(fd)
        Path(temporary).replace(merged)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    return merged


def load(run_directory: Path | str) -> History:
    """The merged history of a run. Raises HistoryError when there is none or when it can't be read."""
    path = Path(run_directory) / MERGED_NAME
    lines, torn = _lines(path)
    history = History(sorted((event for event, _ in lines), key=_time))
    history.torn = torn
    return history


def _lines_by_time(directory: Path) -> tuple[list[tuple[Event, bytes]], int]:
    if not directory.is_dir():
        raise HistoryError(f"{directory} holds no events: there is no such directory.")
    merged: list[tuple[Event, bytes]] = []
    torn = 0
    for path in sorted(directory.glob("*.jsonl")):
        lines, torn_here = _lines(path)
        merged += lines
        torn += torn_here
    # The sort is stable, so that a file's own order decides between equal times.
    merged.sort(key=lambda line: line[0].t)
    return merged, torn


def _lines(path: Path) -> tuple[list[tuple[Event, bytes]], int]:
    try:
        *whole, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise HistoryError(f"{path} can't be read: {error.strerror}.") from None
    lines: list[tuple[Event, bytes]] = []
    for number, line in enumerate(whole, start=1):
        try:
            lines.append((_decoder.decode(line), line))
        except msgspec.MsgspecError as error:
            raise HistoryError(f"{path}, line {number} is not an event: {error}.") from None
        except UnicodeDecodeError:
            raise HistoryError(f"{path}, line {number} is not an event: it is not UTF-8.") from None
    # What follows the last newline was never finished. It is dropped even if it happens to parse: one rule,
    # no guessing.
    return lines, int(bool(last))


def _time(event: Event) -> int:
    return event.t


def _encodable(member: Any) -> Any:
    """Lone surrogates, as in an error text about a strange file name, are spelt out: JSON lines are UTF-8."""
    if isinstance(member, str) and not member.isascii():
        return member.encode("utf-8", "backslashreplace").decode("utf-8")
    return member
