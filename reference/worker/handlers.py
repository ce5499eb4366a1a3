"""Handlers, registered by task type with a decorator and found by import path."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..queue.errors import ConfigError, LazyResult
from ..queue.task import Task

Handler = Callable[[Task], Any]

registry: dict[str, Handler] = {}


def handler(task_type: str) -> Callable[[Handler], Handler]:
    """Register a function as the handler of a task type.

        @handler("email")
        def send_email(task: Task) -> None:
            mailer.send(task.payload, idempotency_key=task.id)

    It runs at least once for each task: after a crash between its effect and the ack it runs again, with a higher
    `task.attempt`, which is the fencing token to hand to whatever it writes to. Returning is success; raising is a
    failure, and the task comes back later.

    Raises:
        ConfigError: the type has a handler already, or calling the handler would not run it: it is an async function
            or a generator function.
    """

    def register(function: Handler) -> Handler:
        kind = _lazy_kind(function)
        if kind:
            raise ConfigError(
                f"The handler of task type {task_type!r} is {kind}, and calling it would run nothing of it: "
                "make it a plain function."
            )
        if task_type in registry:
            raise ConfigError(f"Task type {task_type!r} has two handlers.")
        registry[task_type] = function
        return function

    return register


def _lazy_kind(function: Any) -> str | None:
    """Name the kind of function whose call only returns an object that nobody runs; None: it is not of that kind."""
    # What `functools.wraps` wrapped is not looked at: a plain function may well run an async one.
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
        return "an async function"
    if inspect.isasyncgenfunction(function):
        return "an async generator function"
    return "a generator function" if inspect.isgeneratorfunction(function) else None


def refuse_lazy(result: object) -> None:
    """Raise if a handler's result shows that its work was not done, but handed back to be awaited or iterated.

    Raises:
        LazyResult: it is an awaitable, a generator or an async generator. A coroutine is closed, so that Python does
            not warn of it for each task.
    """
    if not (inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)):
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        with suppress(BaseException):  # it may have been begun, and not want to end
            result.close()
    raise LazyResult(type(result).__name__)


def load_handlers(app: str) -> dict[str, Handler]:
    """Import the module that registers the handlers, from the current folder or the Python path.

    Raises:
        ConfigError: it cannot be imported, or registers nothing.
    """
    if not all(part.isidentifier() for part in app.split(".")):
        raise ConfigError(f"--app {app}: that is no import path; it looks like myapp.tasks.")
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
    return registry


def _registered_elsewhere() -> str | None:
    """The package of another copy of this unit, in this process, in which handlers were registered."""
    for name, module in list(sys.modules.items()):
        if name.endswith(".worker.handlers") and name != __name__ and getattr(module, "registry", None):
            return _unit_of(name)
    return None


def _unit_of(module: str) -> str:
    return module.removesuffix(".worker.handlers")
