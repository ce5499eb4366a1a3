"""Writes the events of a process: one file each, one `O_APPEND` write per event."""

import itertools
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from .events import Event, HistoryError
from .masking import masked

_encoder = msgspec.json.Encoder()
_FREE_TEXT = {"error", "evidence", "reason"}
"""Members that may quote text from elsewhere, with a password in it."""


class Recorder:
    """Writes the events of this process to `<directory>/<role>-<pid>.jsonl`; safe across threads.

    `directory` is the run's `events` directory. Raises OSError when an event can't be written in full: evidence that is
    silently incomplete would be worse than a run that stops.
    """

    def __init__(self, directory: Path | str, role: str) -> None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
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
        # Numbered only now, so that a refused event leaves no gap.
        event = msgspec.structs.replace(event, file=self.path.stem, seq=next(self._numbers))
        line = _encoder.encode(event) + b"\n"
        # One write: O_APPEND makes it atomic against other threads, and a kill tears at most the last line.
        written = os.write(self._fd, line)
        if written != len(line):
            os.write(self._fd, line[written:])  # raises the reason, such as ENOSPC
            raise OSError(f"Only {written} of {len(line)} bytes of an event could be written to {self.path.name}.")
        return event

    def close(self) -> None:
        os.close(self._fd)


def _encodable(member: Any) -> Any:
    """Escape lone surrogates, as in an error text about a strange file name: JSON lines are UTF-8."""
    if isinstance(member, str) and not member.isascii():
        return member.encode("utf-8", "backslashreplace").decode("utf-8")
    return member
