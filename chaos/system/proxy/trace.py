"""The trace of a run: which commands carried which task.

A task is found by its id in a command or a reply. If the queue has its own id for the task, such as a UUID or the id
of a stream entry, the first command with both ids links them. A command that removes a field of a hash carries the
task that was last written to that field or read from it.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ...history.ids import ids_in
from ...history.trace import Step, Trail
from .peers import Ends, living, owner

TASKS_MAX = 20_000
"""Number of tasks that are followed at once. Completed tasks make room for others."""
FIRST_STEPS_MAX, LAST_STEPS_MAX = 4, 28
ALIASES_MAX = 200_000
WORDS_MAX, WORD_CHARACTERS_MAX = 8, 60
LOOKED_AT_BYTES_MAX = 4_194_304
"""Size limit of the search: longer commands and replies are not searched."""

_ALIAS = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"
)
_ENTRY = re.compile(rb"[0-9]{13}-[0-9]+")
_SCRIPTS = frozenset({"EVALSHA", "EVALSHA_RO", "EVAL", "EVAL_RO"})
_WRITES_A_FIELD = frozenset({"HSET", "HMSET", "HSETNX"})
_QUIET = frozenset({"SUBSCRIBE", "PUBLISH", "CLIENT", "HELLO", "AUTH", "SELECT"})


@dataclass(slots=True)
class Sent:
    """A forwarded command without an answer yet."""

    name: str
    words: list[bytes]
    tasks: Collection[str] = ()
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Session:
    """One connection, as the tracer sees it."""

    who: str
    number: int
    ends: Ends
    """Ports of the client and of the proxy."""
    pid: int | None = None
    transaction: list[tuple[str, Step]] | None = None
    """Tasks and steps queued since MULTI: EXEC executes all of them, or none."""


class Tracer:
    """Follows tasks through the traffic. Call it from the proxy's thread only, until that has ended."""

    def __init__(self, scripts: Mapping[str, str], completed: Callable[[], Collection[str]], now: Callable[[], int]):
        """`scripts`: first eight digits of a script's SHA-1 -> its name. `completed` returns the completed tasks."""
        self._scripts, self._completed, self._now = scripts, completed, now
        self._first: dict[str, list[Step]] = {}
        self._last: dict[str, deque[Step]] = {}
        self._counts: dict[str, int] = {}
        self._aliases: dict[bytes, str | None] = {}  # None: ambiguous, as several tasks came with it
        self._fields: dict[tuple[bytes, bytes], str] = {}
        """Key of a hash and field -> the task stored there."""
        self._sessions = 0
        self.not_followed = 0
        """Number of steps that were dropped, as there was no room for their tasks."""

    def session(self, who: str, ends: Ends) -> Session:
        self._sessions += 1
        return Session(who, self._sessions, ends)

    def sent(self, session: Session, raw: bytes) -> Sent:
        """Record a command that is forwarded to the server."""
        words = words_of(raw)
        name = words[0].decode(errors="replace").upper() if words else ""
        command = Sent(name, words)
        if name in _QUIET or not words:
            return command
        ids = _ids(raw)
        if len(ids) == 1:
            self._learn(words[2:], *ids)
            if name in _WRITES_A_FIELD and len(words) == 4:
                self._place(words[1], words[2], *ids)
        command.tasks = ids or self._by_alias(raw) or (self._by_field(words) if name == "HDEL" else [])
        if name == "MULTI":
            session.transaction = []
        for task in command.tasks:
            step = self._step(session, command, "request")
            command.steps.append(step)
            if session.transaction is None:
                self._keep(task, step)
            else:
                session.transaction.append((task, step))
        return command

    def answered(self, session: Session, command: Sent, raw: bytes) -> None:
        """Record the server's answer to a command."""
        refused = raw[1:120].partition(b"\r\n")[0].decode(errors="replace") if raw[:1] == b"-" else ""
        for step in command.steps:
            step.answered, step.refused = True, refused
        if command.name in ("EXEC", "DISCARD") and session.transaction is not None:
            queued, session.transaction = session.transaction, None
            if command.name == "EXEC" and raw[:1] == b"*" and not raw.startswith(b"*-1"):
                for task, step in queued:
                    self._keep(task, step)
        if refused or command.name in _QUIET:
            return
        if len(command.tasks) == 1 and (entry := _ENTRY.search(raw[:64])):
            self._learn([entry[0]], *command.tasks, always=True)
        carried = _ids(raw) or self._by_alias(raw)
        if command.name == "HGET" and len(carried) == 1 and len(command.words) == 3:
            self._place(command.words[1], command.words[2], *carried)
        for task in carried:
            if task not in command.tasks:
                step = self._step(session, command, "reply")
                step.answered = True
                self._keep(task, step)

    def trails(self, unfinished: Collection[str], others_max: int = 200) -> Iterable[Trail]:
        """Yield the trails of these tasks, and of up to `others_max` others."""
        for task in sorted(self._first):
            if task not in unfinished:
                others_max -= 1
                if others_max < 0:
                    continue
            steps = [*self._first[task], *self._last.get(task, ())]
            yield Trail(task=task, steps=steps, left_out=self._counts[task] - len(steps))
        if not self.not_followed:  # else it is unknown whether a command carried them
            yield from (Trail(task=task) for task in sorted(frozenset(unfinished) - self._first.keys()))

    def _by_alias(self, raw: bytes) -> list[str]:
        """Return the tasks that the queue's own ids in `raw` stand for."""
        if not self._aliases or len(raw) > LOOKED_AT_BYTES_MAX:
            return []
        candidates = _ALIAS.findall(raw) + _ENTRY.findall(raw)
        return sorted({task for one in candidates if (task := self._aliases.get(one))})

    def _by_field(self, words: list[bytes]) -> list[str]:
        """Return the tasks in the fields that an HDEL removes."""
        found = {self._fields.pop((words[1], field), "") for field in words[2:]} if len(words) > 2 else set()
        return sorted(found - {""})

    def _place(self, key: bytes, field: bytes, task: str) -> None:
        if len(self._fields) < ALIASES_MAX:
            self._fields[key, field] = task

    def _learn(self, words: Iterable[bytes], task: str, *, always: bool = False) -> None:
        for word in words:
            for alias in [word] if always else _ALIAS.findall(word):
                if len(self._aliases) < ALIASES_MAX:
                    known = self._aliases.setdefault(alias, task)
                    if known != task:
                        self._aliases[alias] = None

    def _step(self, session: Session, command: Sent, carried_by: Literal["request", "reply"]) -> Step:
        if session.pid is None:
            session.pid = owner(session.ends, living()) or 0
        name, words = self._named(command)
        return Step(
            t=self._now(),
            who=session.who,
            pid=session.pid,
            connection=session.number,
            command=name,
            words=[_short(word) for word in words[:WORDS_MAX]],
            carried_by=carried_by,
        )

    def _named(self, command: Sent) -> tuple[str, list[bytes]]:
        """Return a command's display name, and its words, keys first."""
        words = command.words
        if command.name not in _SCRIPTS or len(words) < 3 or not words[2].isdigit():
            return command.name, words[1:]
        digest = words[1][:8].decode(errors="replace") if command.name.startswith("EVALSHA") else "inline"
        called = self._scripts.get(digest, digest)
        keys = int(words[2])
        verb = words[3 + keys][:20].decode(errors="replace") if len(words) > 3 + keys else ""
        named = f"script {called}" + (f" ({verb})" if verb.isalpha() and digest not in self._scripts else "")
        return named, words[3:]

    def _keep(self, task: str, step: Step) -> None:
        first = self._first.get(task)
        if first is None:
            if len(self._first) >= TASKS_MAX and not self._make_room():
                self.not_followed += 1
                return
            first = self._first[task] = []
            self._counts[task] = 0
        kept = self._last.get(task) or first
        last = kept[-1] if kept else None
        if last and step.carried_by == "reply" and _same(last, step):
            last.times += 1
            return
        self._counts[task] += 1
        if len(first) < FIRST_STEPS_MAX:
            first.append(step)
        else:
            self._last.setdefault(task, deque(maxlen=LAST_STEPS_MAX)).append(step)

    def _make_room(self) -> bool:
        for task in self._completed():
            self._first.pop(task, None)
            self._last.pop(task, None)
            self._counts.pop(task, None)
        gone = {alias for alias, task in self._aliases.items() if task is not None and task not in self._first}
        for alias in gone:
            del self._aliases[alias]
        return len(self._first) < TASKS_MAX


def words_of(raw: bytes) -> list[bytes]:
    """Return the words of a complete command."""
    if raw[:1] != b"*":
        return raw.split()
    words = []
    at = raw.index(b"\r\n") + 2
    while at < len(raw):
        end = raw.index(b"\r\n", at)
        length = int(raw[at + 1 : end])
        words.append(raw[end + 2 : end + 2 + length])
        at = end + 4 + length
    return words


def _same(one: Step, other: Step) -> bool:
    members = ("who", "pid", "command", "words", "carried_by")
    return all(getattr(one, name) == getattr(other, name) for name in members)


def _ids(raw: bytes) -> list[str]:
    return sorted(one.decode() for one in ids_in(raw)) if len(raw) <= LOOKED_AT_BYTES_MAX else []


def _short(word: bytes) -> str:
    text = word[: WORD_CHARACTERS_MAX + 1].decode(errors="backslashreplace")
    return text if len(text) <= WORD_CHARACTERS_MAX else f"{text[:WORD_CHARACTERS_MAX]}…"
