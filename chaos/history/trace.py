"""`trace.jsonl`: the life of tasks in Redis commands, a line for each task that a run traced."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

TRACE_NAME = "trace.jsonl"


class Step(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One command that carried the task, to the server or back from it. `t` is CLOCK_MONOTONIC in ns."""

    t: int
    who: str
    """Sender: client, producer, or worker-N, by the connection that the command used."""
    pid: int = 0
    """Process that sent the command; 0: it was gone before it could be identified."""
    connection: int
    command: str
    """Name of the command, with the name of the script if it runs one."""
    words: list[str] = []
    """Arguments of the command, each shortened; its keys come first."""
    carried_by: Literal["request", "reply"] = "request"
    answered: bool = False
    """Whether the server answered; if not, it is unknown whether the command was executed."""
    times: int = 1
    """Number of identical commands in a row, as by a census that polls."""
    refused: str = ""
    """Error with which the server refused to execute the command; empty: it did not."""


class Trail(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The steps of one task, in their order."""

    task: str
    steps: list[Step] = []
    left_out: int = 0
    """Number of steps left out in the middle: the trail of a task is bounded."""


def write_trails(path: Path, trails: Iterable[Trail]) -> None:
    """Write one line of JSON for each trail."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for trail in trails:
            file.write(encoder.encode(trail) + b"\n")


def read_trails(directory: Path) -> dict[str, Trail]:
    """Return task -> its trail; empty: the run was not traced. Raises OSError or msgspec.MsgspecError."""
    path = directory / TRACE_NAME
    if not path.exists():
        return {}
    decoder = msgspec.json.Decoder(Trail)
    with path.open("rb") as file:
        return {trail.task: trail for trail in map(decoder.decode, file)}
