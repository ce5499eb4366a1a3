"""`result.json`: the result as the checker gave it, for programs."""

from pathlib import Path

import msgspec

from ..checker.verdicts import Result

NAME = "result.json"


def write(run_directory: Path, result: Result) -> Path:
    """Write the members in the order of `Result`, tasks sorted, one member a line: `diff` can compare two results."""
    path = run_directory / NAME
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result, order="deterministic"), indent=2) + b"\n")
    return path


def read(run_directory: Path) -> Result:
    """Return the stored result. Raises OSError or msgspec.MsgspecError if it is missing or can't be read."""
    return msgspec.json.decode((run_directory / NAME).read_bytes(), type=Result)
