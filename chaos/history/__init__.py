"""The history of a run: what every process reports that it did, as JSON lines outside the broker.

Each process writes its own file, `<run>/events/<role>-<pid>.jsonl`, one `O_APPEND` write per event, the invocation
before the act and the outcome after it. `<run>/history.jsonl` is all of them merged by `t`.
"""

from .events import (
    Census,
    CensusAfter,
    Effect,
    Event,
    Fault,
    Harness,
    HistoryError,
    Ledger,
    Load,
    Place,
    Poke,
    Process,
    Resources,
    Run,
    Submit,
)
from .reader import EVENTS_DIRECTORY, MERGED_NAME, History, load, read, write_merged
from .traits import Aim, ServerEnd, Traits
from .writer import Recorder

__all__ = [
    "EVENTS_DIRECTORY",
    "MERGED_NAME",
    "Aim",
    "Census",
    "CensusAfter",
    "Effect",
    "Event",
    "Fault",
    "Harness",
    "History",
    "HistoryError",
    "Ledger",
    "Load",
    "Place",
    "Poke",
    "Process",
    "Recorder",
    "Resources",
    "Run",
    "ServerEnd",
    "Submit",
    "Traits",
    "load",
    "read",
    "write_merged",
]
