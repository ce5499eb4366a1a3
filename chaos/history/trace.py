"""The life of tasks in Redis's own commands: `trace.jsonl`, a line for each task that a run has followed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

TRACE_NAME = "trace.jsonl"


class Step(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One command that carried the task, to the server or back from it. `t` is CLOCK_MONOTONIC in ns."""

    t: int
    who: str
    """client, producer, or worker-N: which way to the server it took."""
    pid: int = 0
    """The process that sent it; 0: it was gone before it could be found."""
    connection: int
    command: str
    """Its name, with what a script is called."""
    words: list[str] = []
    """What follows the name, each word shortened: the first are its keys."""
    carried_by: Literal["request", "reply"] = "request"
    answered: bool = False
    """Whether the server has answered it; else it is unknown whether it was executed."""
    times: int = 1
    """How often the same was sent and answered in a row, as by a census that looks again and again."""
    refused: str = ""
    """The error that the server answered with: then it was not executed."""


class Trail(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The steps of one task, in their order."""

    task: str
    steps: list[Step] = []
    left_out: int = 0
    """How many were left out in the middle, as a task is followed for a bounded number of steps."""


def write_trails(path: Path, trails: Iterable[Trail]) -> None:
    """One line of JSON for each."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        for trail in trails:
            file.write(encoder.encode(trail) + b"\n")


def read_trails(directory: Path) -> dict[str, Trail]:
    """Task -> its trail; empty: the run was not traced. Raises OSError or msgspec.MsgspecError."""
    path = directory / TRACE_NAME
    if not path.exists():
        return {}
    decoder = msgspec.json.Decoder(Trail)
    with path.open("rb") as file:
        return {trail.task: trail for trail in map(decoder.decode, file)}
