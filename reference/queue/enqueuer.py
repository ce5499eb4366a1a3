"""Enqueue: from a request to a promise.

A task is promised when Redis has acknowledged it, and it is as safe as `durability` asks, and only then. Guard (I8),
bound and push are one atomic step.
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

SENT_AT_ONCE_BYTES = 49_152  # what a socket takes at once, when nothing else is on its way


class Enqueuer:
    """The producing side of the queue; safe to share between threads."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        """Raises ConfigError: the settings are those of several shards."""
        refuse_client_of_shards(client, config)
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._durability = Durability(config.durability, config.durability_timeout_ms)
        self._known = False  # that the queue speaks this protocol

    def enqueue_payload(self, payload: Any, *, task_type: str = "default") -> Accepted:
        """Enqueue a Python value; the short form of `enqueue` for use from code."""
        return self.enqueue(Submission(payload_json=json.dumps(payload, allow_nan=False), task_type=task_type))

    def enqueue(self, submission: Submission) -> Accepted:
        """Enqueue one task. Raises as `Queue.enqueue` does."""
        outcome = self.enqueue_many([submission])[0]
        if isinstance(outcome, Accepted):
            return outcome
        raise outcome

    def enqueue_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue many in one atomic step; the outcomes are in the order of the submissions. Raises likewise."""
        (outcomes,) = self.enqueue_requests([submissions])
        if isinstance(outcomes, QueueError):
            raise outcomes
        return outcomes

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Enqueue several requests in one call. Each is admitted by itself, as if it came after those before it.

        For each request its outcomes, or why none of it was promised: QueueFull, or NotConfirmed.

        Raises:
            NotAccepted: nothing of any request was enqueued.
            OutcomeUnknown: nobody can say it of any.
        """
        call = self._call(requests)
        if not call.texts:
            return list(call.outcomes)
        with self._errors():
            if not self._known:  # ask, before the first task, whether this is a queue to push to
                refuse_other_protocol(self._client, self._keys)
                self._known = True
            try:
                return self._push(call)
            except MovedError:  # a definite no, and the next connection leads to the slot's new owner
                return self._push(call)

    def send_requests(self, requests: Sequence[Sequence[Submission]]) -> "Sent | None":
        """Send what `enqueue_requests` would, and leave the reply to be read when it is there.

        None: nothing was sent, since that cannot be done without waiting. So it is before the first call, where no
        connection is open, where more than Redis's answer is needed, and where the requests are large.

        Raises:
            OutcomeUnknown: nobody can say it of any.
        """
        pool: Any = self._client.connection_pool
        # Looked at first: a digest of a large payload waits for its turn.
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
        """Redis's errors as this module's."""
        try:
            yield
        except OtherProtocol as error:
            raise NotAccepted(str(error)) from error
        except (NeverSent, redis.BusyLoadingError) as error:
            raise NotAccepted(f"Redis cannot be reached ({error}).") from error
        except AskError as error:  # whose text is the slot and the other node
            raise NotAccepted(f"Redis refused, as the slot of this queue is being moved ({error}).") from error
        except redis.ResponseError as error:
            raise NotAccepted(f"Redis refused ({error}).") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise (OutcomeUnknown if self._known else NotAccepted)(f"Redis did not answer ({error}).") from error

    def _push(self, call: Call) -> list[list[Outcome] | QueueError]:
        if self._durability.immediate:
            return call.read(self._script(self._client, call.keys, call.arguments()))
        with borrowed(self._client) as connection:  # one for both: a connection confirms its own writes only
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
    """Requests that Redis has been sent: `receive` their answers once `descriptor` is readable, or `give_up`."""

    def __init__(self, call: Call, connection: Any, pool: Any, errors: Any) -> None:
        self._call, self._connection, self._pool, self._errors = call, connection, pool, errors
        self.descriptor: int = connection._sock.fileno()

    def receive(self) -> list[list[Outcome] | QueueError] | None:
        """As `enqueue_requests`; None: Redis does not know the script, or the slot has moved, and it did nothing."""
        with self._errors(), giving_back(self._pool, self._connection):
            try:
                return self._call.read(self._connection.read_response())
            except NoScriptError:
                return None
            except MovedError:
                self._connection.disconnect()  # the next one leads to the slot's new owner
                return None

    def give_up(self, reason: str) -> OutcomeUnknown:
        """Close the connection, on which the reply may still come."""
        self._connection.disconnect()
        self._pool.release(self._connection)
        return OutcomeUnknown(f"Redis did not answer ({reason}).")


def _promises(outcomes: list[Outcome] | QueueError) -> bool:
    return isinstance(outcomes, list) and any(isinstance(outcome, Accepted) for outcome in outcomes)
