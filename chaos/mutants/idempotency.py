"""Mutants that honour an idempotency key only in part."""

import threading
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from zeroloss.reference.queue import enqueuer
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission

from .mutant import LEAK, UNEXPLAINED, mutant
from .patching import configure, edit, patch, resubmit
from .profiles import DEFAULT, FULL, VARIED


@mutant(expects=(UNEXPLAINED, "IDEMPOTENT"), breaks="I8", profile=DEFAULT)
def short_lived_key() -> None:
    """An idempotency key is forgotten after 5 ms."""
    configure(Enqueuer, idempotency_ttl_ms=5)


@mutant(expects=(UNEXPLAINED, "IDEMPOTENT"), breaks="I8", profile=DEFAULT)
def keys_in_memory() -> None:
    """Idempotency keys are kept in the producer's memory and noted when Redis has answered."""
    known: dict[str, Accepted] = {}
    lock = threading.Lock()

    def enqueue(self: Any, submission: Submission) -> Any:
        key = submission.idempotency_key
        with lock:
            if key is not None and key in known:
                return replace(known[key], replayed=True)
        accepted = original(self, replace(submission, idempotency_key=None))
        if key is not None:
            with lock:
                known[key] = accepted
        return accepted

    original = patch(Enqueuer, "enqueue", enqueue)


@mutant(expects="IDEMPOTENT", breaks="I8", profile=DEFAULT)
def conflict_unnoticed() -> None:
    """A reused idempotency key with another payload counts as a repetition: the new task is promised and dropped."""
    edit(
        enqueuer,
        "ENQUEUE",
        "string.sub(seen, 1, 64) == digest and '=' .. string.sub(seen, 65) or '!'",
        "'=' .. string.sub(seen, 65)",
    )


@mutant(expects=LEAK, breaks="I8", profile=VARIED)
def key_without_expiry() -> None:
    """An idempotency key is kept forever."""
    edit(enqueuer, "ENQUEUE", "redis.call('SET', key, known[key], 'PX', ARGV[3])", "redis.call('SET', key, known[key])")


@mutant(expects=(UNEXPLAINED, "IDEMPOTENT"), breaks="I8", profile=DEFAULT)
def keys_ignored_in_batches() -> None:
    """Idempotency keys are ignored in batches."""

    def enqueue_many(self: Any, submissions: Sequence[Submission]) -> Any:
        if len(submissions) > 1:
            submissions = [replace(submission, idempotency_key=None) for submission in submissions]
        return original(self, submissions)

    original = patch(Enqueuer, "enqueue_many", enqueue_many)


@mutant(expects="LOST", breaks="I8", profile=FULL)
def key_kept_without_room() -> None:
    """An idempotency key is stored even if the queue is full: a repeated request is then promised without a task."""
    keep = "redis.call('SET', key, known[key], 'PX', ARGV[3])"
    edit(enqueuer, "ENQUEUE", "keys[#keys + 1] = key\n", f"keys[#keys + 1] = key\n  {keep}\n")


@mutant(expects=("ACCEPTS", "IDEMPOTENT"), breaks="I8", profile=VARIED)
def keys_ignore_case() -> None:
    """Idempotency keys that differ only in case count as one key."""

    def lower(submission: Submission) -> Submission:
        return replace(submission, idempotency_key=submission.idempotency_key and submission.idempotency_key.lower())

    resubmit(lower)
