"""What there is to choose from: `faults`, `situations`, `behaviours`, `targets`."""

import dataclasses

from rich.console import Console
from rich.table import Table

from .common import app


@app.command
def faults() -> int:
    """List the faults: how often each is planned unless told, its options, and the invariants that it threatens."""
    from ..faults import FAULTS

    for name, fault in FAULTS.items():
        options = "".join(f":{field.name}={field.default}" for field in dataclasses.fields(fault))
        print(f"{name}:count={fault.count}{options}")
        print(f"    {fault.summary()}")
        print(f"    Threatens {', '.join(fault.threatens) or 'nothing'}.")
    return 0


@app.command
def situations() -> int:
    """List the situations that a run can be asked to meet, and the states of the fault x state matrix."""
    from ..checker.situations import SITUATIONS, STATES

    table = Table("--demand", "is met when", box=None)
    for name, title in SITUATIONS.items():
        table.add_row(name, f"{title}.")
    for state, title in STATES.items():
        table.add_row(f"FAULT@{state}", f"The fault struck, and of some task it is true that {title}.")
    Console().print(table)
    return 0


@app.command
def behaviours() -> int:
    """List how tasks can be told to misbehave, by the member `behaviour` of their payload."""
    from ..faults.behaviours import BEHAVIOURS

    table = Table("behaviour", "what happens", box=None)
    for name, title in BEHAVIOURS.items():
        table.add_row(name, f"{title[0].upper()}{title[1:]}.")
    Console().print(table)
    return 0


@app.command
def targets() -> int:
    """List the targets that are shipped."""
    from ..target import SHIPPED, load_target

    table = Table("target", "workers", "recovers within", "what it is", box=None)
    for name in SHIPPED:
        target = load_target(name)
        summary = (target.__doc__ or "").strip().partition("\n")[0]
        table.add_row(name, str(target.workers), f"{target.recover_within:g} s", summary)
    Console().print(table)
    return 0
