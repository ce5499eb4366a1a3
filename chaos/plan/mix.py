"""`--faults mix`, the default: mostly kills of workers in the middle of their tasks, and a few faults drawn."""

import random
from collections import Counter
from collections.abc import Iterable

from ..faults import load_faults
from .fitting import may_be_drawn
from .plan import PlannedFault
from .requests import FaultRequest, checked_kills

DRAWN = 3


def draw_mix(seed: int, *, kills: int | None, server: str, appendfsync: str) -> list[FaultRequest]:
    """What every queue has to bear: so many kills (50 unless told), and one each of a few others.

    Faults that need something of the queue, such as scripts to be forgotten, are not among them: where it is missing
    they take no effect, and a run without a defect would be INCONCLUSIVE.
    """
    known = load_faults()
    always = [fault for fault in known if fault.in_mix == "always"]
    others = [
        fault.name
        for fault in known
        if fault.in_mix == "drawn" and may_be_drawn(fault, server=server, appendfsync=appendfsync)
    ]
    drawn = random.Random(f"mix:{seed}").sample(others, min(DRAWN, len(others)))
    return [
        *(FaultRequest(one.name, one.count if kills is None else checked_kills(kills), {}) for one in always),
        *(FaultRequest(name, 1, {}) for name in sorted(drawn)),
    ]


def listed(faults: Iterable[PlannedFault]) -> str:
    """`50 worker-sigkill, 1 client-pause`, the most frequent first."""
    counts = Counter(fault.fault for fault in faults)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
