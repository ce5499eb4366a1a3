"""The drain with `--ahead 1`: the speed that is left almost without prefetch."""

from collections.abc import Callable

from ..context import Context
from ..peers import OURS, PEERS
from ..queues import equipped
from ..rows import AtLeast, Row, number, ratio
from .drain import Drained, fastest_python, ours

LABEL = f"{OURS.name}, --ahead 1"


def measure(context: Context) -> list[Row]:
    """Compare with the fastest peer of this run's drain; if there was no drain, with all peers."""
    fastest = fastest_python(context)
    peers = [peer for peer in PEERS if peer.at_least_once and not peer.node and fastest in (peer.name, None)]
    subjects: dict[str, Callable[[], float]] = {LABEL: lambda: ours(context, "--ahead", "1")}
    subjects |= {queue.name: Drained(queue, context) for queue in equipped(peers, context)}
    found = context.interleaved(subjects, lambda rate: f"{number(rate)} tasks/s")
    rows = [Row(label=name, unit="tasks/s", values=tuple(rates)) for name, rates in found.items()]
    others = [row for row in rows if row.label != LABEL]
    if LABEL in found and others:
        best = max(others, key=lambda row: row.median)
        text = f"against the fastest at-least-once Python peer, {best.label}"
        rows.append(ratio(text, found[LABEL], best.values, AtLeast(5.5)))
    return rows
