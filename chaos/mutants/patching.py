"""Plant a defect: replace one name of the reference, or some words of one script."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import redis
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import Script
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.lua import LISTS

_RING = Script(f"#!lua flags=allow-oom\n{LISTS}ring()")


def patch(owner: Any, name: str, replacement: Any) -> Any:
    """Replace `owner.name`, which must exist, and return the original."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    return original


def edit(owner: Any, name: str, old: str, new: str) -> None:
    """Replace words of the script `owner.name`. Raises ValueError: they are not in it, so no defect was planted."""
    script: Script = getattr(owner, name)
    if old not in script.source:
        raise ValueError(f"{name} does not contain {old!r} any more")
    setattr(owner, name, Script(script.source.replace(old, new)))


def configure(actor: type[Any], **changes: Any) -> None:
    """Give an actor other settings than the rest of the process: values, or functions of the configuration."""

    def begin(self: Any, client: redis.Redis, config: Config, *names: str) -> None:
        changed = {name: change(config) if callable(change) else change for name, change in changes.items()}
        original(self, client, replace(config, **changed), *names)

    original = patch(actor, "__init__", begin)


def resubmit(change: Callable[[Submission], Submission]) -> None:
    """Let the producer enqueue something else in place of each single task."""

    def enqueue(self: Any, submission: Submission) -> Any:
        return original(self, change(submission))

    original = patch(Enqueuer, "enqueue", enqueue)


def ring(client: redis.Redis, waiting: Sequence[str]) -> None:
    """Set the bell to its correct state, with a separate command. `waiting`: the bell and the three lists."""
    _RING(client, waiting, [])


def counted(entry: bytes, *, retries: int = 0, recoveries: int = 0) -> bytes:
    """Return an entry with its counts increased by `retries` and `recoveries`, and its attempt by their sum."""
    header, _, body = entry.partition(b";")
    priority, attempt, *counts, since, salt, trace = header.decode().split(",")
    raised = [int(attempt) + retries + recoveries, int(counts[0]) + retries, int(counts[1]) + recoveries]
    return ",".join([priority, *map(str, raised), since, salt, trace]).encode() + b";" + body
