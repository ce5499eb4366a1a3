"""Handlers, registered by task type with a decorator and found by import path."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .task import Task

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
        ConfigError: the type has a handler already.
    """

    def register(function: Handler) -> Handler:
        if task_type in registry:
            raise ConfigError(f"Task type {task_type!r} has two handlers.")
        registry[task_type] = function
        return function

    return register


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
        raise ConfigError(f"--app {app}: it registers no handler.")
    return registry
