"""The first event in the history of a case of the enumeration."""

from collections.abc import Sequence

from ..history import Recorder
from ..target import title
from .scenario import FIRST, Case
from .slot import Slot

FAULT_NAME = "crash-point"


def record_begin(recorder: Recorder, slot: Slot, case: Case, doomed: Sequence[str]) -> None:
    """Record the event `run` `begin`. `doomed`: the tasks that must be given up."""
    command = ["zeroloss", "enumerate", "--target", slot.spec]
    if case.crashes:
        command += ["--points", str(case.crashes[0])]
    recorder.record(
        "run",
        "begin",
        seed=0,
        target=title(slot.target),
        command=command,
        recover_within=slot.target.recover_within,
        plan={
            "tasks": len(FIRST),  # later tasks are submitted only while the worker lives
            "workers": 1,
            "faults": [
                {"number": number, "fault": FAULT_NAME, "at_s": 0.0, "traits": {"aims_at": "command"}}
                for number, _ in enumerate(case.crashes, start=1)
            ],
            "doomed": list(doomed),
        },
    )
