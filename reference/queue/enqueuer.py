"""Enqueue: from a request to a promise.

A task is promised only after Redis has acknowledged it and it is as safe as `durability` requires. The check of the
idempotency key (I8), the check of the limits and the push are one atomic step.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import AskError, MovedError, NoScriptError

from .config import Config
from .connection import NeverSent, Script, borrowed, giving_back, refuse_client_of_shards, send
from .durability import Durability
from .enqueuing.push import ENQUEUE, Call
from .enqueuing.submission import Accepted, Outcome, Submission
from .errors import NotAccepted, NotConfirmed, OtherProtocol, OutcomeUnknown, QueueError
from .keys import Keys
from .protocol import refuse_other_protocol
from .task import DEFAULT_TYPE

SENT_AT_ONCE_BYTES = 49_152  # a socket with an empty send buffer accepts this much without blocking


class Enqueuer:
    """The producing side of the queue; safe to share between threads."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        """Raises ConfigError: the client and the number of shards do not match."""
        refuse_client_of_shards(client, config)
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._durability = Durability(config.durability, config.durability_timeout_ms)
        self._known = False  # whether the queue was found to have this protocol

    def enqueue_payload(self, payload: Any, *, task_type: str = DEFAULT_TYPE) -> Accepted:
        """Enqueue a Python value: a short form of `enqueue`."""
        return self.enqueue(Submission(payload_json=json.dumps(payload, allow_nan=False), task_type=task_type))

    def enqueue(self, submission: Submission) -> Accepted:
        """Enqueue one task. Raises as `Queue.enqueue` does."""
        outcome = self.enqueue_many([submission])[0]
        if isinstance(outcome, Accepted):
            return outcome
        raise outcome

    def enqueue_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue several tasks in one atomic step; the outcomes are in their order. Raises as `Queue.enqueue_many`."""
        (outcomes,) = self.enqueue_requests([submissions])
        if isinstance(outcomes, QueueError):
            raise outcomes
        return outcomes

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Enqueue several requests in one call. Each is admitted separately, in their order.

        Return for each request its outcomes, or the error by which it is not promised: QueueFull or NotConfirmed.

        Raises:
            NotAccepted: no task of any request was enqueued.
            OutcomeUnknown: whether the tasks of the requests were enqueued is unknown.
        """
        call = self._call(requests)
        if not call.texts:
            return list(call.outcomes)
        with self._errors():
            if not self._known:  # before the first task, check the protocol of the queue
                refuse_other_protocol(self._client, self._keys)
                self._known = True
            try:
                return self._push(call)
            except MovedError:  # nothing ran, and the next connection leads to the slot's new owner
                return self._push(call)

    def send_requests(self, requests: Sequence[Sequence[Submission]]) -> "Sent | None":
        """Send requests as `enqueue_requests` does, without waiting for the reply.

        Return None, and send nothing, if sending might block: before the first call, without an idle connection, with
        a durability level above memory, or for large requests.

        Raises:
            OutcomeUnknown: whether the tasks of the requests were enqueued is unknown.
        """
        pool: Any = self._client.connection_pool
        # Check the size first: the digest of a large payload may wait (see `turn_to_decode`).
        chars = sum(len(submission.payload_json) for submissions in requests for submission in submissions)
        if not self._known or not self._durability.immediate or chars > SENT_AT_ONCE_BYTES:
            return None
        call = self._call(requests)
        if not call.texts or sum(map(len, call.texts)) + 256 * len(call.keys) > SENT_AT_ONCE_BYTES:
            return None
        connection = pool.idle_connection()
        if connection is None:
            return None
        with self._errors():
            try:
                send(connection, *self._script.command(call.keys, call.arguments()))
            except BaseException:
                connection.disconnect()
                pool.release(connection)
                raise
        return Sent(call, connection, pool, self._errors)

    @property
    def _script(self) -> Script:
        return ENQUEUE

    def _call(self, requests: Sequence[Sequence[Submission]]) -> Call:
        return Call(self._keys, self._config, requests)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate Redis's errors into those of this package."""
        try:
            yield
        except OtherProtocol as error:
            raise NotAccepted(str(error)) from error
        except (NeverSent, redis.BusyLoadingError) as error:
            raise NotAccepted(f"Redis cannot be reached ({error}).") from error
        except AskError as error:  # its text is only the slot and the other node
            raise NotAccepted(f"Redis refused, as the slot of this queue is being moved ({error}).") from error
        except redis.ResponseError as error:
            raise NotAccepted(f"Redis refused ({error}).") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise (OutcomeUnknown if self._known else NotAccepted)(f"Redis did not answer ({error}).") from error

    def _push(self, call: Call) -> list[list[Outcome] | QueueError]:
        if self._durability.immediate:
            return call.read(self._script(self._client, call.keys, call.arguments()))
        with borrowed(self._client) as connection:  # one for both: WAIT and WAITAOF confirm only their own connection
            answers = call.read(self._script.on(connection, call.keys, call.arguments()))
            promised = [place for place, outcomes in enumerate(answers) if _promises(outcomes)]
            if promised:
                try:
                    self._durability.confirm(connection)
                except NotConfirmed as error:
                    for place in promised:
                        answers[place] = error
            return answers


class Sent:
    """Requests that were sent to Redis. Call `receive` once `descriptor` is readable, or call `give_up`."""

    def __init__(self, call: Call, connection: Any, pool: Any, errors: Any) -> None:
        self._call, self._connection, self._pool, self._errors = call, connection, pool, errors
        self.descriptor: int = connection._sock.fileno()

    def receive(self) -> list[list[Outcome] | QueueError] | None:
        """Return as `enqueue_requests` does; None if nothing ran, as Redis lacks the script or the slot has moved."""
        with self._errors(), giving_back(self._pool, self._connection):
            try:
                return self._call.read(self._connection.read_response())
            except NoScriptError:
                return None
            except MovedError:
                self._connection.disconnect()  # the next one leads to the slot's new owner
                return None

    def give_up(self, reason: str) -> OutcomeUnknown:
        """Close the connection, on which the reply may still arrive, and return the error for the caller."""
        self._connection.disconnect()
        self._pool.release(self._connection)
        return OutcomeUnknown(f"Redis did not answer ({reason}).")


def _promises(outcomes: list[Outcome] | QueueError) -> bool:
    return isinstance(outcomes, list) and any(isinstance(outcome, Accepted) for outcome in outcomes)
