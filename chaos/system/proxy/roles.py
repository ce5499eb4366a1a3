"""Interfaces of the proxy's upper layers for the lower ones, so that imports go one way: channel, listener, proxy."""

import random
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .strikes import Link, Strike
from .trace import Tracer
from .way import Tally

Answer = TypeVar("Answer")


class Loop(Protocol):
    """The proxy as a listener and its channels see it: the thread in which all of them run."""

    def call(self, ask: Callable[[], Answer]) -> Answer: ...
    def later(self, seconds: float, act: Callable[[], None]) -> None: ...
    def watch(self, channel: Any) -> None: ...
    def unwatch(self, channel: Any) -> None: ...
    def forget(self, listener: Any) -> None: ...
    def url_of(self, port: int) -> str: ...


class Door(Protocol):
    """The listener as its channels see it: faults to inject, and counters."""

    proxy: Loop
    opaque: bool
    tracer: Tracer | None
    who: str
    frozen: bool
    link: Link
    links: dict[str, Link]
    jitter: random.Random
    to_server: Tally
    to_worker: Tally
    channels: set[Any]
    unreadable: int
    cut: list[tuple[int, int]]

    def count(self, role: str, name: str) -> Strike | None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def hang_up(self) -> None: ...
