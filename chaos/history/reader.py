"""Reads the events of a run, and merges the files of its processes into one."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from .events import FORMAT, Event, HistoryError, Run
from .ledgers import Bounds, bounds_of, complaint, is_ledger, wrong

EVENTS_DIRECTORY = "events"
MERGED_NAME = "history.jsonl"

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()


class History(list[Event]):
    """Events ordered by `t`; `torn` counts the last lines that were cut off in mid-write."""

    torn: int = 0


def read(directory: Path | str) -> History:
    """Return the events of the files in `directory`, ordered by `t`, then by their place in a file.

    A last line that was cut off is left out and counted. A line of the workers' ledger that can't be true is left out,
    and a `Ledger` event reports it. Raises HistoryError, naming file and line, for any other line that isn't an event.
    """
    lines, torn = _lines_by_time(Path(directory))
    history = History(event for event, _ in lines)
    history.torn = torn
    return history


def write_merged(run_directory: Path | str) -> Path:
    """Merge the files of `<run>/events` into `<run>/history.jsonl`, whole or not at all; returns its path."""
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
    """Return the merged history of a run. Raises HistoryError if it is missing or can't be read."""
    path = Path(run_directory) / MERGED_NAME
    lines, torn = _lines(path)
    history = History(sorted((event for event, _ in lines), key=_time))
    history.torn = torn
    return history


def _lines_by_time(directory: Path) -> tuple[list[tuple[Event, bytes]], int]:
    if not directory.is_dir():
        raise HistoryError(f"{directory} holds no events: there is no such directory.")
    paths = sorted(path for path in directory.iterdir() if path.is_file())
    merged: list[tuple[Event, bytes]] = []
    torn = 0
    for path in paths:
        if not is_ledger(path):
            lines, torn_here = _lines(path)
            merged += lines
            torn += torn_here
    events = [event for event, _ in merged]
    bounds, last_t = bounds_of(events), max((event.t for event in events), default=0)
    for path in paths:
        if is_ledger(path):
            lines, torn_here = _ledger_lines(path, bounds, last_t)
            merged += lines
            torn += torn_here
    # The sort is stable, so that a file's own order decides between equal times.
    merged.sort(key=lambda line: line[0].t)
    return merged, torn


def _lines(path: Path) -> tuple[list[tuple[Event, bytes]], int]:
    whole, torn = _text_of(path)
    lines: list[tuple[Event, bytes]] = []
    for number, line in enumerate(whole, start=1):
        try:
            lines.append((_event(line), line))
        except HistoryError as error:
            _refuse_newer(path, [*(line for _, line in lines), *whole[number - 1 :]])
            raise HistoryError(f"{path}, line {number} is not an event: {error}.") from None
    _refuse_newer(path, (line for event, line in lines if isinstance(event, Run)))
    return lines, torn


def _ledger_lines(path: Path, bounds: Bounds | None, last_t: int) -> tuple[list[tuple[Event, bytes]], int]:
    """Return the lines that can be true, and one event, at `last_t`, that reports the others."""
    whole, torn = _text_of(path)
    lines: list[tuple[Event, bytes]] = []
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(whole, start=1):
        try:
            event = _event(line)
            why = wrong(path, event, bounds)
        except HistoryError as error:
            why = f"it is not an event: {error}"
        if why is None:
            lines.append((event, line))
        else:
            refused.append((number, why))
    if refused:
        event = complaint(path, refused, t=last_t)
        lines.append((event, _encoder.encode(event)))
    return lines, torn


def _text_of(path: Path) -> tuple[list[bytes], int]:
    """Return the whole lines of a file, and the number of lines that were cut off at its end.

    Text after the last newline was never finished. It is dropped even if it happens to parse: one rule, no guessing.
    """
    try:
        *whole, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise HistoryError(f"{path} can't be read: {error.strerror}.") from None
    return whole, int(bool(last))


def _event(line: bytes) -> Event:
    """Decode an event. Raises HistoryError, with a clause, if the line is invalid."""
    try:
        return _decoder.decode(line)
    except RecursionError:
        raise HistoryError("it is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise HistoryError(str(error)) from None
    except UnicodeDecodeError:
        raise HistoryError("it is not UTF-8") from None


class _Versioned(msgspec.Struct):
    """A line decoded for its version only: the other members may be unknown."""

    format: int = 1


_version_decoder = msgspec.json.Decoder(_Versioned)


def _refuse_newer(path: Path, lines: Iterable[bytes]) -> None:
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            version = _version_decoder.decode(line).format
            if version > FORMAT:
                raise HistoryError(
                    f"{path} has version {version} of the format, and this zeroloss knows {FORMAT}: use a newer one."
                )


def _time(event: Event) -> int:
    return event.t
