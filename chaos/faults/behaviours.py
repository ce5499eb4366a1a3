"""How a task of the workload can misbehave, so that failures, retries and dead letters are part of a run."""

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
"""What a task can do wrong. A target finds it in the payload, and does it in its body or its `enqueue`."""
IN_BODY = frozenset(
    {"", "raise-once", "raise-always", "raise-system-exit", "raise-keyboard-interrupt", "raise-memory-error"}
    | {"hang-once", "exit-once", "exit-twice", "exit", "outlive-lease", "hungry", "reject", "misfit", "lazy"}
    | {"unretried", "raise-later"}
)
"""Those of which only the task's body knows: such a task may be one of a batch."""
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
"""Those that no queue can complete: they must end in the dead-letter list, and nothing else may (I5)."""
ATTEMPTS = {"reject": 1, "unretried": 1, "misfit": 0, "lazy": 0}
"""How often the body of such a task is begun, whatever the target states of others."""
ENDS_ITS_PROCESS = frozenset({"exit-once", "exit-twice", "exit", "hungry", "outlive-lease"})
"""Those by which a body may end the process that it runs in, as a target may end one whose task takes too long."""
ABANDONED = frozenset({"client-gives-up"})
"""Those whose client hears nothing, by the plan: that they were not promised is not a failure."""
