"""The work of every task of the bench, in any queue: nothing, or a mark if marks are wanted.

`BENCH_MARKS` names the file for the marks: eight bytes for each task, the ns from its sending to the start of its
handler. Both clocks are CLOCK_MONOTONIC, which all processes of a machine share. Standard library only: every peer's
worker imports this in an environment of its own.
"""

import os
import struct
import time

_marks = os.environ.get("BENCH_MARKS")
_file = os.open(_marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if _marks else None


def begun(sent_ns: int) -> None:
    """Do a handler's whole work. `sent_ns`: time just before the task was sent."""
    if _file is not None:
        os.write(_file, struct.pack("<q", time.monotonic_ns() - sent_ns))
