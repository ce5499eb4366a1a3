"""The scenario in which schedules search for each mutant of the protocol, and the law that it must break there.

The mutants of `zeroloss.mutants.mutant.PROTOCOL` have their defects in the reference's Python and Lua, below the
process level. The process events that they need (a kill, a sleep, a stop) are choices of the schedule. The other
mutants show only by sizes, durations, counts and answers, which a schedule of a few tasks does not cover.
The law differs from the mutant's own where the story of one task shows another law first: a task that is stuck forever
in a live worker's list breaks no conservation, but it never ends (I2).
"""

from dataclasses import dataclass

from .cast import Theatre
from .scenario import LEASE_MS, Scenario, Wish
from .search import Choices, Played, nearest_first

ONE = (Wish(),)
TWO = (Wish(), Wish())
THREE = (Wish(), Wish(), Wish())
LATE = (Wish(at_ms=2 * LEASE_MS),)
STRANGERS = (Wish(behaviour="unknown type"),)


@dataclass(frozen=True, kw_only=True)
class Sought:
    """`changes`: number of choices other than the default that suffice."""

    law: str
    scenario: Scenario
    changes: int = 0


@dataclass(frozen=True, kw_only=True)
class Found:
    """The first schedule that breaks the law, and the number of schedules played to find it."""

    choices: Choices
    played: Played
    schedules: int


def hunt(theatre: Theatre, sought: Sought) -> Found:
    """Return the nearest schedule that breaks the law. Raise LookupError if none does."""
    for schedules, (choices, played) in enumerate(nearest_first(theatre, sought.scenario, sought.changes), 1):
        if any(text.startswith(sought.law) for text in played.violations):
            return Found(choices=choices, played=played, schedules=schedules)
    raise LookupError(f"no schedule with {sought.changes} changes breaks {sought.law}")


SOUGHT = {
    "plain-brpop": Sought(law="I1", scenario=Scenario(wishes=ONE)),
    "newest-first": Sought(law="I7", scenario=Scenario(wishes=TWO)),
    "ack-before-the-handler": Sought(law="I2", scenario=Scenario(wishes=ONE)),
    "ack-in-finally": Sought(law="I2", scenario=Scenario(wishes=(Wish(behaviour="raises"),))),
    "no-reconciliation": Sought(law="I2", scenario=Scenario(wishes=ONE, faults=("lost",)), changes=1),
    "zombie-honoured": Sought(
        law="I3", scenario=Scenario(wishes=(Wish(behaviour="raises"),), faults=("sleep",)), changes=1
    ),
    "drain-drops": Sought(law="I1", scenario=Scenario(wishes=THREE, faults=("stop",)), changes=1),
    "claim-without-a-lease": Sought(law="I4", scenario=Scenario(wishes=LATE, faults=("die asleep",)), changes=1),
    "repeated-claim-overwrites": Sought(
        law="I1", scenario=Scenario(wishes=(Wish(behaviour="slow"), Wish()), faults=("twice",)), changes=1
    ),
    "numbers-used-again": Sought(law="I2", scenario=Scenario(wishes=TWO, faults=("lost",)), changes=1),
    "number-in-flight-believed": Sought(
        law="I3", scenario=Scenario(wishes=(Wish(at_ms=LEASE_MS // 3),), faults=()), changes=1
    ),
    "renewal-does-not-count": Sought(law="I2", scenario=Scenario(wishes=ONE, reapers=0, faults=("late",)), changes=3),
    "bell-swallowed": Sought(law="I4", scenario=Scenario(wishes=LATE, workers=2, faults=("sleep",)), changes=1),
    "release-does-not-ring": Sought(
        law="I4", scenario=Scenario(wishes=(Wish(), Wish(behaviour="slow"), Wish()), workers=2, faults=())
    ),
    "low-priority-starves": Sought(law="I7", scenario=Scenario(wishes=(Wish(), Wish(priority="low")))),
    "no-recovery": Sought(law="I4", scenario=Scenario(wishes=ONE, faults=("crash",)), changes=1),
    "recovery-ignores-leases": Sought(law="I3", scenario=Scenario(wishes=(Wish(behaviour="slow"),))),
    "recovery-in-two-steps": Sought(law="I1", scenario=Scenario(wishes=ONE, faults=("crash",)), changes=1),
    "undecodable-wedges": Sought(law="I4", scenario=Scenario(wishes=(), orphans=("p-0", "undecodable"))),
    "recovery-needs-traffic": Sought(law="I4", scenario=Scenario(wishes=ONE, faults=("crash",)), changes=1),
    "client-clock": Sought(law="I3", scenario=Scenario(wishes=(Wish(behaviour="slow"),), ahead_ms=60 * LEASE_MS)),
    "recovery-lowest-number-first": Sought(law="I7", scenario=Scenario(wishes=(), orphans=("p-0", "p-1"))),
    "recovery-forgets-who-holds-more": Sought(
        law="I4", scenario=Scenario(wishes=(), orphans=("p-0", "p-1", "p-2"), faults=("lost",)), changes=1
    ),
    "recovery-does-not-ring": Sought(law="I4", scenario=Scenario(wishes=(), orphans=("p-0",))),
    "promotion-does-not-ring": Sought(law="I4", scenario=Scenario(wishes=(Wish(behaviour="raises once"),))),
    "promotion-in-two-steps": Sought(law="I1", scenario=Scenario(wishes=(Wish(delay_ms=LEASE_MS),))),
    "refused-burial-removes": Sought(
        law="I1", scenario=Scenario(wishes=(), orphans=("undecodable",), refused_until_ms=2 * LEASE_MS)
    ),
    "retry-in-two-steps": Sought(law="I1", scenario=Scenario(wishes=(Wish(behaviour="raises"),))),
    "dead-letter-without-the-push": Sought(law="I2", scenario=Scenario(wishes=STRANGERS)),
    "retries-uncounted": Sought(law="I5", scenario=Scenario(wishes=(Wish(behaviour="raises"),))),
    "gives-up-at-once": Sought(law="I5", scenario=Scenario(wishes=(Wish(behaviour="raises once"),))),
    "recoveries-uncounted": Sought(
        law="I5", scenario=Scenario(wishes=(Wish(behaviour="kills"),), settings={"max_recoveries": 0})
    ),
    "unknown-type-dropped": Sought(law="I2", scenario=Scenario(wishes=STRANGERS)),
    "undecodable-deleted": Sought(law="I2", scenario=Scenario(wishes=(), undecodable=True)),
    "payload-by-cjson": Sought(law="I6", scenario=Scenario(wishes=(Wish(behaviour="raises once"),))),
    "retry-renamed": Sought(law="I6", scenario=Scenario(wishes=(Wish(behaviour="raises once"),))),
    "retry-loses-its-priority": Sought(
        law="I7", scenario=Scenario(wishes=(Wish(behaviour="raises once", priority="high"),))
    ),
    "requeue-loses-its-priority": Sought(
        law="I7",
        scenario=Scenario(wishes=(Wish(behaviour="unknown type", priority="high"),), requeued_at_ms=LEASE_MS),
    ),
    "requeue-does-not-ring": Sought(law="I4", scenario=Scenario(wishes=STRANGERS, requeued_at_ms=LEASE_MS)),
    "enqueue-error-swallowed": Sought(law="I2", scenario=Scenario(wishes=ONE, faults=("unsent",)), changes=1),
    "default-retries": Sought(law="I8", scenario=Scenario(wishes=ONE, keyed=False, faults=("lost",)), changes=1),
    "idempotency-in-two-steps": Sought(law="I8", scenario=Scenario(wishes=ONE, faults=("lost",)), changes=1),
    "ids-collide": Sought(law="I6", scenario=Scenario(wishes=TWO)),
    "bound-after-the-push": Sought(law="I6", scenario=Scenario(wishes=TWO, settings={"max_pending": 1})),
    "canary": Sought(law="I2", scenario=Scenario(wishes=TWO, went_before=499)),
    "scheduled-task-begun-at-once": Sought(law="I7", scenario=Scenario(wishes=(Wish(delay_ms=LEASE_MS),))),
    "equal-delayed-tasks-are-one": Sought(law="I1", scenario=Scenario(wishes=(), twins=True)),
}
