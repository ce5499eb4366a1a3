"""Ways in which a task can misbehave, so that a run includes failures, retries and dead letters."""

BEHAVIOURS = {
    "raise-once": "its body raises at the first attempt",
    "raise-always": "its body raises at every attempt",
    "raise-system-exit": "its body raises SystemExit at the first attempt",
    "raise-keyboard-interrupt": "its body raises KeyboardInterrupt at the first attempt",
    "raise-memory-error": "its body raises MemoryError at the first attempt",
    "raise-later": "its body raises at the first attempt, and asks to be tried again when the target states",
    "hang-once": "its body does not return for as long as its plan says, at the first attempt",
    "exit-once": "its body ends the process it runs in, at the first attempt",
    "exit-twice": "its body ends the process it runs in, at the first two attempts, and raises at the third",
    "outlive-lease": "its body takes longer than a lease",
    "hungry": "its body asks for more memory than a worker usually needs",
    "client-gives-up": "its client hangs up before it has an answer",
    "client-retries": "its client sends it again, with the same idempotency key, though it has its answer",
    "client-retries-unanswered": "its client hangs up before it has an answer, and sends it again with the same key",
    "client-reuses-key": "its client sends it again, and another payload, with its idempotency key, after its answer",
    "client-reuses-key-at-once": "its client sends it, and another payload, several times at once with one key",
    "reject": "its body gives it up for good, at the first attempt",
    "unretried": "its body raises, and its type has no retries",
    "misfit": "its payload is not what its handler takes, so that its body is not to run",
    "lazy": "its handler hands the work back, as a generator that nobody runs, so that its body is not begun",
    "exit": "its body ends the process it runs in, at every attempt",
    "unknown-type": "no worker knows its type",
    "undecodable": "it is in the queue as bytes that are not a task",
    "orphan": "it is where a dead worker left it",
    "orphan-undecodable": "it is among a dead worker's tasks, as bytes that are not a task",
}
"""Name of a behaviour -> its description. A target reads the name in the payload, and acts in its body or `enqueue`."""
IN_BODY = frozenset(
    {"", "raise-once", "raise-always", "raise-system-exit", "raise-keyboard-interrupt", "raise-memory-error"}
    | {"hang-once", "exit-once", "exit-twice", "exit", "outlive-lease", "hungry", "reject", "misfit", "lazy"}
    | {"unretried", "raise-later"}
)
"""Behaviours that only the task's body carries out: such a task can be part of a batch."""
DOOMED = frozenset(
    {
        "raise-always",
        "unretried",
        "exit",
        "reject",
        "misfit",
        "lazy",
        "unknown-type",
        "undecodable",
        "orphan-undecodable",
    }
)
"""Behaviours that no queue can complete. These tasks must end as dead letters, and no other task may (I5)."""
ATTEMPTS = {"reject": 1, "unretried": 1, "misfit": 0, "lazy": 0}
"""Number of times the body of such a task begins, whatever limit the target states for other tasks."""
ENDS_ITS_PROCESS = frozenset({"exit-once", "exit-twice", "exit", "hungry", "outlive-lease"})
"""Behaviours that can end the body's process, by the body itself, a memory limit or a time limit of the target."""
ABANDONED = frozenset({"client-gives-up"})
"""Behaviours whose client hangs up by plan: a missing promise is not a failure."""
