"""A chaos harness for task queues, and a reference queue that it holds to its promises.

What a test of one's own queue needs is here: `from zeroloss import Target, Refused, Found, effect, TargetError`. This
file imports only `ledger`, `target` and `asynchronous`, and only when they are asked for. They need no more than the
standard library: they travel into the environment of the queue under test, where nothing else of this package is
installed.
"""

import importlib
from pkgutil import extend_path

# The copy that travels must not hide the rest of the package where both are on the path.
__path__ = extend_path(__path__, __name__)

TYPE_CHECKING = False  # as typing's, whose import would delay the queue's first signal handler
if TYPE_CHECKING:
    from .asynchronous import AsynchronousTarget
    from .ledger import effect
    from .target import Conflict, Found, Refused, Retries, Target, TargetError, Task, Variant, WrongAnswer

__all__ = [
    "AsynchronousTarget",
    "Conflict",
    "Found",
    "Refused",
    "Retries",
    "Target",
    "TargetError",
    "Task",
    "Variant",
    "WrongAnswer",
    "effect",
]


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"effect": ".ledger", "AsynchronousTarget": ".asynchronous"}.get(name, ".target")
    return getattr(importlib.import_module(module, __name__), name)
