"""Mutants that change or drop a task because of its size or its characters."""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from zeroloss.reference.queue import consumer, dead_letters, enqueuer, reaper
from zeroloss.reference.queue.connection import Script
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing import push
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.task import Task, encode, new_task_id

from .mutant import mutant
from .patching import configure, edit, patch, resubmit
from .profiles import CALM, HANDLERS, VARIED

LARGE_BYTES = 65_536


@mutant(expects=("LOST", "FAILED", "CORRUPT", "STUCK"), breaks="I6", profile=VARIED)
def cut_by_characters() -> None:
    """A task is truncated, because its length is counted in characters and not in bytes."""

    class InCharacters(bytes):
        def __len__(self) -> int:
            return len(self.decode())

    patch(push, "encode", lambda **members: InCharacters(encode(**members)))


@mutant(expects="LOST", breaks="I2", profile=VARIED)
def large_tasks_dropped() -> None:
    """A task whose payload has more than 64 KiB is promised and not pushed."""

    def enqueue(self: Any, submission: Submission) -> Any:
        if len(submission.payload_json) > LARGE_BYTES:
            return Accepted(submission.task_id or new_task_id(), replayed=False)
        return original(self, submission)

    original = patch(Enqueuer, "enqueue", enqueue)


@mutant(expects="CORRUPT", breaks="I6", profile=CALM)
def payload_encoded_anew() -> None:
    """The producer decodes a payload and encodes it again, so that 1.10 becomes 1.1."""

    def anew(submission: Submission) -> Submission:
        return replace(submission, payload_json=json.dumps(json.loads(submission.payload_json)))

    def enqueue_many(self: Any, submissions: Sequence[Submission]) -> Any:
        return original(self, [anew(submission) for submission in submissions])

    original = patch(Enqueuer, "enqueue_many", enqueue_many)


@mutant(expects="CORRUPT", breaks="I6", profile=CALM)
def payload_normalised() -> None:
    """The producer normalises the Unicode text of a payload."""

    def normalised(submission: Submission) -> Submission:
        return replace(submission, payload_json=unicodedata.normalize("NFC", submission.payload_json))

    resubmit(normalised)


@mutant(expects="FAILED", breaks="I2", profile=VARIED)
def type_normalised() -> None:
    """The type of a task is normalised to decomposed Unicode, under which no handler is registered."""

    def normalised(*, task_type: str, **members: Any) -> bytes:
        return encode(task_type=unicodedata.normalize("NFD", task_type), **members)

    patch(push, "encode", normalised)


@mutant(expects="ACCEPTS", breaks="I2", profile=VARIED)
def limit_of_64_kib() -> None:
    """A task above 64 KiB is refused as too large, whatever the limit is set to."""
    configure(Enqueuer, max_task_bytes=LARGE_BYTES)


@mutant(expects=("CORRUPT", "FAILED"), breaks="I6", profile=VARIED)
def white_space_taken_out() -> None:
    """A payload with spaces is decoded and written again without them."""

    def tight(submission: Submission) -> Submission:
        text = submission.payload_json
        if '": ' in text:
            text = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
        return replace(submission, payload_json=text)

    resubmit(tight)


@mutant(expects="FAILED", breaks="I6", profile=HANDLERS)
def payload_decoded_once() -> None:
    """A process decodes each payload once, so a retry sees the changes that the handler made to it."""
    decoded: dict[bytes, Any] = {}

    def payload(self: Task) -> Any:
        return decoded.setdefault(bytes(self.raw_payload), original.fget(self))

    original: Any = patch(Task, "payload", property(payload))


@mutant(expects=("FAILED", "LOST", "STUCK"), breaks="I6", profile=VARIED)
def header_measured_without_its_trace() -> None:
    """The computed header length omits the trace context, so a rewritten header keeps the end of the old one."""
    measured = "#since + #salt + #trace + 9"
    for module in (consumer, dead_letters, enqueuer, reaper):
        for name, script in list(vars(module).items()):
            if isinstance(script, Script) and measured in script.source:
                edit(module, name, measured, "#since + #salt + 9")


@mutant(expects=("FAILED", "LOST", "CORRUPT", "STUCK"), breaks="I6", profile=VARIED)
def bare_entry_measured_too_soon() -> None:
    """A bare JSON object is measured before its header is added, so the tasks claimed with it are truncated."""
    edit(consumer, "SETTLE", "now) .. entry\n    size = #entry", "now) .. entry")


@mutant(expects="LOST", breaks="I1", profile=VARIED)
def entry_at_the_bound_is_taken() -> None:
    """A task that does not fit into a claim is removed from the pending list, though it is not handed out."""
    edit(consumer, "SETTLE", "if full then break end", "if full then taken[at] = had + 1 break end")


@mutant(expects=("LOST", "STUCK"), breaks="I2", profile=VARIED)
def first_entry_is_bounded() -> None:
    """A claim takes no entry above its limit in bytes, even if it is the first: the largest tasks are never claimed."""
    edit(consumer, "SETTLE", "count > 0 and bytes + size > bytes_max", "bytes + size > bytes_max")
