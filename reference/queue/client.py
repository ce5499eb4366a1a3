"""The API for Python producers and for tools: one queue on one server."""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
import redis

from .config import Config, load_config
from .connection import connect, refuse_client
from .dead_letters import DeadLetters
from .enqueuer import Enqueuer
from .enqueuing.submission import AT_ONCE, Accepted, Outcome, Submission, due_at, due_in
from .errors import ConfigError, InvalidTask
from .keys import Keys
from .task import PRIORITIES, refuse_constant, refuse_half_pairs
from .texts import NAME_CHARS_MAX

if TYPE_CHECKING:
    from ..stats.gauges import Reading

_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
NESTING_MAX = 200  # far below the interpreter's recursion limit, which workers and requeues reach at other depths


class NewTask(NamedTuple):
    """One task for `Queue.enqueue_many`. The fields are the arguments of `Queue.enqueue`."""

    type: str
    payload: Any
    id: str | None = None
    priority: str = "default"
    delay_ms: int | None = None
    execute_at: datetime | str | None = None
    idempotency_key: str | None = None
    trace_context: str = ""


class Queue:
    """Enqueues and counts tasks, and manages dead letters; safe to share between threads.

    A forked process opens its own connections. `pause`, `resume`, `stats` and `dead_letters` raise
    `redis.RedisError` if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, config: Config) -> None:
        """Raises ConfigError: the client repeats commands by itself, or answers with decoded text."""
        refuse_client(client)
        self.dead_letters = DeadLetters(client, config)
        self._client, self._config, self._paused = client, config, Keys(config.namespace).paused
        self._enqueuer = Enqueuer(client, config)

    @classmethod
    def connect(cls, url: str | None = None, *, namespace: str | None = None, **settings: Any) -> Self:
        """Return a queue on a server; it connects at the first command. `settings` are fields of `Config`.

        A setting that is not given comes from the environment (see `load_config`), else it has its default.

        Raises:
            ConfigError: a setting, or an option of the URL, is refused.
        """
        config = load_config(redis_url=url, namespace=namespace, **settings)
        return cls(connect(config), config) if config.shards == 1 else open_queue(config)  # type: ignore[return-value]

    def close(self) -> None:
        """Close all connections, those that other threads use once they are free; the next command opens new ones."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def enqueue(
        self,
        task_type: str,
        payload: Any,
        *,
        id: str | None = None,
        priority: str = "default",
        delay_ms: int | None = None,
        execute_at: datetime | str | None = None,
        idempotency_key: str | None = None,
        trace_context: str = "",
    ) -> Accepted:
        """Enqueue one task. Returning is a promise: the task runs to its end at least once, or is dead-lettered (I2).

        `payload` is a value that msgspec can write as JSON, or JSON text as a `msgspec.Raw`. `priority` is high,
        default or low. The task is due after `delay_ms`, or at `execute_at`, a time with its zone (RFC 3339 if it is a
        string). By default, or if that time has passed, it is due at once. The handler gets `trace_context`, a
        `traceparent`.

        Raises:
            InvalidTask, TaskTooLarge, IdempotencyConflict, QueueFull, NotAccepted: the task was not enqueued.
            OutcomeUnknown: the task may have been enqueued; retry with the same idempotency key.
            NotConfirmed, a kind of OutcomeUnknown: Redis has the task, but may lose it; retry in the same way.
        """
        task = NewTask(task_type, payload, id, priority, delay_ms, execute_at, idempotency_key, trace_context)
        return self._enqueuer.enqueue(_submission(task))

    def enqueue_many(self, tasks: Iterable[NewTask]) -> list[Outcome]:
        """Enqueue tasks in one atomic step, or one step for each shard; the outcomes are in the order of the tasks.

        Each outcome is `Accepted`, or the error of this task: too large, a conflict, or an error of its shard.

        Raises:
            InvalidTask, QueueFull, NotAccepted: no task was enqueued.
            OutcomeUnknown: either every acceptable task was enqueued, or no task.
        """
        return self._enqueuer.enqueue_many([_submission(task) for task in tasks])

    def pause(self) -> None:
        """Stop all workers from claiming, from their next renewal on; running tasks finish."""
        self._client.set(self._paused, "1")

    def resume(self) -> bool:
        """Let workers claim again, from their next renewal on. Return whether claiming was paused."""
        return bool(self._client.delete(self._paused))

    def stats(self) -> "Reading":
        """Count the pending, held, delayed and dead tasks and the consumers, in two round trips.

        Raises:
            ConfigError: this copy was made without stats.
        """
        try:
            from ..stats.gauges import Gauges
        except ModuleNotFoundError:
            raise ConfigError("This copy was made without stats, which vendor --with adds.") from None
        return Gauges(self._client, self._config).read()


def open_queue(config: Config) -> Queue:
    """Return the queue of a `Config`, over all shards if there are several.

    Raises:
        ConfigError: an option of the URL is refused, or this copy lacks the code for several shards.
    """
    if config.shards == 1:
        return Queue(connect(config), config)
    try:
        from ..shards.queue import ShardedQueue  # which extends `Queue`
    except ModuleNotFoundError:
        raise ConfigError("This copy was made without shards, which vendor --with adds; or set shards to 1.") from None
    return ShardedQueue(config)


def _submission(task: NewTask) -> Submission:
    _check_name("type", task.type)
    for name, value in (("id", task.id), ("idempotency_key", task.idempotency_key)):
        if value is not None:
            _check_name(name, value)
    if task.priority not in PRIORITIES:
        raise InvalidTask(f"priority must be high, default or low, not {task.priority!r:.{NAME_CHARS_MAX}}.")
    if task.delay_ms is not None and task.execute_at is not None:
        raise InvalidTask("delay_ms and execute_at exclude each other: give one of them.")
    due = AT_ONCE
    if task.delay_ms is not None:
        due = due_in(task.delay_ms)
    elif task.execute_at is not None:
        due = due_at(task.execute_at)
    trace = task.trace_context
    if not isinstance(trace, str) or (trace and not _TRACEPARENT.fullmatch(trace)):
        raise InvalidTask("trace_context must be a traceparent, as W3C's Trace Context has it: 00-ID-ID-01.")
    return Submission(_json(task.payload), task.type, task.id, task.idempotency_key, task.priority, due, trace)


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS_MAX or not value.isprintable():
        raise InvalidTask(f"{name} must be a text of 1 to {NAME_CHARS_MAX} printable characters.")


def _json(payload: Any) -> str:
    try:
        if isinstance(payload, msgspec.Raw):
            text = bytes(payload).decode()
            value = json.loads(text, parse_constant=refuse_constant)
            refuse_half_pairs(text)
        else:
            # msgspec's own encoder would write NaN as null.
            value = msgspec.to_builtins(payload, str_keys=True)
            text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()  # fails at half a surrogate pair
    except RecursionError:
        raise _nested_too_deep() from None
    except (TypeError, ValueError) as error:
        raise InvalidTask(f"The payload cannot be written as JSON: {error}.") from None
    if text.count("[") + text.count("{") > NESTING_MAX:
        _check_depth([value])
    return text


def _check_depth(value: Any) -> None:
    level = [value]  # of arrays and objects
    for _ in range(NESTING_MAX + 1):
        values = (outer.values() if isinstance(outer, dict) else outer for outer in level)
        level = [inner for outer in values for inner in outer if isinstance(inner, dict | list)]
    if level:
        raise _nested_too_deep()


def _nested_too_deep() -> InvalidTask:
    return InvalidTask(f"The payload is nested deeper than {NESTING_MAX} levels; flatten it.")
