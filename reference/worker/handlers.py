"""Handlers: functions that a decorator registers for a task type, with settings of their own; loaded by import path."""

import functools
import importlib
import inspect
import math
import sys
import typing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..queue.config import Config
from ..queue.errors import ConfigError, LazyResult, QueueError
from ..queue.task import Task
from .event_loop import EventLoop

AFTER_S_MAX = 366 * 86_400.0
ASYNC = "an async function"

Function = TypeVar("Function", bound=Callable[..., Any])
Around = Callable[[Task, Callable[[], None]], Any]


class Retry(Exception):
    """Raised by a handler: the task failed, and is retried `after` seconds later if it has retries left.

    Raises:
        ValueError: `after` is not a number from 0 to a year.
    """

    def __init__(self, reason: str = "", *, after: float) -> None:
        if not 0 <= after <= AFTER_S_MAX:  # false for NaN
            raise ValueError(f"Retry(after=...) takes from 0 to {AFTER_S_MAX:.0f} seconds, not {after!r}.")
        super().__init__(reason or f"after {after:g} s")
        self.after_ms = round(after * 1000)


class Reject(Exception):
    """Raised by a handler: the task goes to the dead-letter list at once, since no retry could help."""


@dataclass(frozen=True)
class Handler:
    """A function that runs the tasks of one type, and the settings of this type."""

    function: Callable[..., Any]
    is_async: bool = False
    payload_type: Any = None  # a `msgspec.Struct`; None: the function takes only the task
    settings: dict[str, Any] = field(default_factory=dict)  # fields of `Config` that this type overrides
    config: Config | None = None  # the worker's with these settings; None: the worker's own counts
    around: Around | None = None
    plain: bool = False  # whether running it is just a call of the function with the task

    def under(self, config: Config) -> "Handler":
        """Return this handler for a worker with the given configuration.

        Raises:
            ConfigError: the type's own settings are invalid.
        """
        backoff_max_ms = max(config.backoff_max_ms, self.settings.get("backoff_ms", 0))
        config = replace(config, backoff_max_ms=backoff_max_ms, **self.settings)
        plain = not (self.is_async or self.payload_type or _around)
        return replace(self, config=config, around=_around, plain=plain)

    def run(self, task: Task, loop: EventLoop | None = None) -> None:
        """Run a task to its end, with the middleware around it; an async function runs on the loop.

        Raises:
            LazyResult: the function did not do its work, but returned an object to await or to iterate.
            Reject: the payload is not of the type that the function takes.
            BaseException: any error that the function or the middleware raised.
        """
        if self.around is None:
            refuse_lazy(self.function(task) if self.plain else self._call(task, loop))
            return
        calls = []

        def call() -> None:
            calls.append(task)
            refuse_lazy(self._call(task, loop))

        refuse_lazy(self.around(task, call))
        if not calls:
            raise QueueError("The function registered with @around did not call the handler.")

    def _call(self, task: Task, loop: EventLoop | None) -> Any:
        result = self.function(task) if self.payload_type is None else self.function(task, self._payload(task))
        if self.is_async and loop and self.config:
            return loop.run_coroutine(result, self.config.task_timeout_ms)
        return result

    def _payload(self, task: Task) -> Any:
        try:
            return msgspec.json.decode(task.raw_payload, type=self.payload_type)
        except msgspec.MsgspecError as error:
            raise Reject(f"The payload is not a valid {self.payload_type.__name__}: {error}.") from None


registry: dict[str, Handler] = {}
_around: Around | None = None


def handler(
    task_type: str,
    *,
    max_retries: int | None = None,
    timeout: float | None = None,
    backoff: float | None = None,
) -> Callable[[Function], Function]:
    """Register a function as the handler of a task type.

        class Email(msgspec.Struct):
            to: str

        @handler("email", max_retries=5, timeout=60, backoff=2)
        def send_email(task: Task, email: Email) -> None:
            mailer.send(email.to, idempotency_key=task.id)

    The function runs at least once for each task: after a crash between its effect and the ack it runs again, with a
    higher `task.attempt`. This is the fencing token for the systems that the function writes to. Returning is success.
    Raising is a failure, and the task is retried later; `Retry` sets the delay, and `Reject` prevents the retry.

    A second parameter, annotated with a `msgspec.Struct`, gets the payload as that type; a payload that does not fit is
    dead-lettered with the path of the field. `timeout` and `backoff` (before the first retry) are in seconds; by
    default the worker's settings count. An async function runs on the event loop of its process, occupies one handler
    thread, and is cancelled at its time limit.

    Raises:
        ConfigError: the type has a handler already, a setting is invalid, the second parameter is not a Struct, or
            the function is a generator function, which a call does not run.
    """
    milliseconds = {"task_timeout_ms": _ms("timeout", timeout), "backoff_ms": _ms("backoff", backoff)}
    settings = {"max_retries": max_retries, **milliseconds}

    def register(function: Function) -> Function:
        kind = _lazy_kind(function)
        if kind not in (None, ASYNC):
            raise ConfigError(
                f"The handler of task type {task_type!r} is {kind}, and calling it would run nothing of it: "
                "make it a plain function."
            )
        if task_type in registry:
            raise ConfigError(f"Task type {task_type!r} has two handlers.")
        made = Handler(
            function,
            kind == ASYNC,
            _payload_type(task_type, function),
            {name: value for name, value in settings.items() if value is not None},
        )
        made.under(Config())  # raises for an invalid setting here, where it is written
        registry[task_type] = made
        return function

    return register


def around(function: Around) -> Around:
    """Register the function that runs each handler, for example for tracing or metrics.

        @around
        def traced(task: Task, call: Callable[[], None]) -> None:
            with tracer.start_as_current_span(task.type):
                call()

    It runs in the handler's thread, around async handlers too, which see its context variables. `call` raises the
    handler's error; an error that leaves this function is the failure of the task.

    Raises:
        ConfigError: such a function is registered already, or a call does not run this one.
    """
    global _around
    kind = _lazy_kind(function)
    if kind:
        raise ConfigError(f"The function registered with @around is {kind}: make it a plain function.")
    if _around is not None:
        raise ConfigError("Two functions are registered with @around: make it one that calls the other.")
    _around = function
    return function


def _ms(name: str, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigError(f"{name} must be a number of seconds above 0, not {seconds!r}.")
    return max(1, int(seconds * 1000))


def _payload_type(task_type: str, function: Any) -> Any:
    """Return the Struct that annotates the second parameter; None if there is no second parameter without a default."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # for example a function written in C
        return None
    named = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(named) < 2 or named[1].default is not inspect.Parameter.empty:
        return None
    annotation = named[1].annotation
    if isinstance(annotation, str):  # as with `from __future__ import annotations`
        annotation = inspect.signature(function, eval_str=True).parameters[named[1].name].annotation
    struct = typing.get_origin(annotation) or annotation
    if not (inspect.isclass(struct) and issubclass(struct, msgspec.Struct)):
        raise ConfigError(
            f"The handler of task type {task_type!r} takes a second parameter, {named[1].name!r}, "
            "which must be annotated with a msgspec.Struct."
        )
    return annotation


def _lazy_kind(function: Any) -> str | None:
    """Name the kind of a function whose call only returns an object to await or iterate; None for other functions."""
    # A function inside `functools.wraps` is not examined: the plain function around it may well run an async one.
    while not inspect.isfunction(function):
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, staticmethod) or inspect.ismethod(function):
            function = function.__func__
        elif inspect.isclass(function) or inspect.isroutine(function):
            return None
        else:
            function = type(function).__call__
    if inspect.iscoroutinefunction(function):
        return ASYNC
    if inspect.isasyncgenfunction(function):
        return "an async generator function"
    return "a generator function" if inspect.isgeneratorfunction(function) else None


def refuse_lazy(result: object) -> None:
    """Refuse a handler's result that shows that its work was not done: an object to await or to iterate.

    Raises:
        LazyResult: the result is an awaitable, a generator or an async generator. A coroutine is closed, so that Python
            does not warn about it for each task.
    """
    if result is None or not (inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)):
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        with suppress(BaseException):  # once begun, it may resist being closed
            result.close()
    raise LazyResult(type(result).__name__)


def load_handlers(app: str, config: Config) -> dict[str, Handler]:
    """Import the module that registers the handlers, from the current folder or the Python path.

    Raises:
        ConfigError: there is no such module, it registers nothing, or its settings do not fit the configuration.
    """
    if not all(part.isidentifier() for part in app.split(".")):
        raise ConfigError(f"--app {app}: that is not an import path; it looks like myapp.tasks.")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        importlib.import_module(app)
    except ModuleNotFoundError as error:
        if error.name is not None and (app == error.name or app.startswith(f"{error.name}.")):
            raise ConfigError(f"--app {app}: there is no module {error.name!r} here or on the Python path.") from None
        raise
    if not registry:
        elsewhere = _registered_elsewhere()
        hint = f"; its handlers are those of {elsewhere}, and this is {_unit_of(__name__)}" if elsewhere else ""
        raise ConfigError(f"--app {app}: it registers no handler{hint}.")
    return {task_type: found.under(config) for task_type, found in registry.items()}


def _registered_elsewhere() -> str | None:
    """Return the package of another copy of this unit in this process, if handlers were registered there."""
    for name, module in list(sys.modules.items()):
        if name.endswith(".worker.handlers") and name != __name__ and getattr(module, "registry", None):
            return _unit_of(name)
    return None


def _unit_of(module: str) -> str:
    return module.removesuffix(".worker.handlers")
