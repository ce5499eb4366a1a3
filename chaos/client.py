"""Submits tasks through a command in any language, which reads requests and writes answers, a line of JSON for each.

docs/ledger.md describes requests and answers. Standard library only: this file is imported inside the
environment of the queue under test.
"""

import itertools
import json
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

ANSWER_DEADLINE_S = 30.0
OUTCOMES = ("ok", "refused", "unknown")
SHOWN_CHARACTERS = 200


class CommandFailed(Exception):
    """The outcome of a request is unknown; the text says why."""


class Answer(NamedTuple):
    """The answer of the command to one request."""

    outcome: str
    """One of `OUTCOMES`."""
    error: str
    promised: str | None
    conflict: bool


class CommandClient:
    """Keeps one process of the command running, and starts it again when it has ended. Safe across threads."""

    def __init__(self, command: Sequence[str], deadline_s: float = ANSWER_DEADLINE_S) -> None:
        self._command, self._deadline_s = list(command), deadline_s
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def ask(self, request: dict[str, Any]) -> Answer:
        """Send one request and wait for its answer. Raises CommandFailed if no valid answer came in time."""
        with self._lock:
            if self._running is None or self._running.ended:
                self._running = _Running(self._command)
            running = self._running
        answer = running.send(request)
        try:
            return answer.result(self._deadline_s)
        except TimeoutError:
            raise CommandFailed(f"`enqueue_command` did not answer within {self._deadline_s:g} s.") from None


class _Running:
    """One process of the command, which inherits this one's environment and standard error."""

    def __init__(self, command: list[str]) -> None:
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        except OSError as error:
            raise CommandFailed(f"`enqueue_command` can't be started: {command[0]}: {error.strerror}.") from None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Answer]] = {}
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, request: dict[str, Any]) -> "Future[Answer]":
        waiting: Future[Answer] = Future()
        with self._lock:
            number = next(self._numbers)
            if self.ended:
                waiting.set_exception(CommandFailed("`enqueue_command` has ended."))
                return waiting
            self._waiting[number] = waiting
            line = json.dumps({"request": number, **request}).encode() + b"\n"
            assert self._process.stdin
            try:
                while line:
                    line = line[self._process.stdin.write(line) :]
            except OSError:  # the command has ended, and `_read` reports it
                pass
        return waiting

    def _read(self) -> None:
        assert self._process.stdout
        wrong = ""
        for line in self._process.stdout:
            try:
                number, answer = _answer(line)
            except ValueError as error:
                wrong = f"`enqueue_command` wrote a line that is not an answer: {error} It wrote: {_shown(line)}"
                self._process.kill()
                break
            with self._lock:
                waiting = self._waiting.pop(number, None)
            if waiting:
                waiting.set_result(answer)
        status = self._process.wait()
        with self._lock:
            self.ended = True
            left, self._waiting = self._waiting, {}
        for waiting in left.values():
            waiting.set_exception(CommandFailed(wrong or f"`enqueue_command` ended with status {status}."))


def _answer(line: bytes) -> tuple[int, Answer]:
    """Read an answer and the number of its request. Raises ValueError, with a sentence, if it is invalid."""
    try:
        members = json.loads(line)
    except ValueError:
        raise ValueError("It must be JSON.") from None
    if not isinstance(members, dict) or not isinstance(members.get("request"), int):
        raise ValueError("`request` must be the number of the request.")
    if members.get("outcome") not in OUTCOMES:
        raise ValueError(f"`outcome` must be {', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}.")
    promised = members.get("promised")
    answer = Answer(
        members["outcome"],
        str(members.get("error") or ""),
        promised if isinstance(promised, str) else None,
        members.get("conflict") is True,
    )
    return members["request"], answer


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
