"""The shards as they are now: each has noted how many there are, and the newest note counts."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import redis

from ..queue import protocol
from ..queue.config import SHARDS_MAX, Config
from ..queue.connection import connect, refuse_old_server
from ..queue.errors import OtherProtocol
from .layout import NOTE, Layout, Noted, read_note, shard_config, shards_key

ASK_TIMEOUT_S = 1.0
ASKED_AT_ONCE = 16
FRESH_S = 1.0  # `look` asks no sooner again

S = TypeVar("S")
T = TypeVar("T")


class Answer(NamedTuple):
    """What one shard says."""

    noted: Noted | None
    time_ms: int


class Shards:
    """Knows how many shards there are, by asking them; safe to share between threads and with forked processes.

    A process is started with a number. That is the one that is noted where there is none yet, and else it must be the
    present one or the one before. From then on the process follows changes by itself.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layout = Layout(config.shards, config.shards)
        self.doubted = True  # whether it is to be asked again before it is used
        self._found = False  # whether a shard has said how many there are
        self._looked_at = -FRESH_S
        self._probes: dict[int, redis.Redis] = {}
        self._forgets_at: dict[int, float] = {}  # shard -> when it has forgotten the keys of before (monotonic, s)

    def configs(self) -> list[Config]:
        """The settings of each shard that may hold tasks; those that are only drained come last."""
        return [shard_config(self.config, number) for number in range(self.layout.attended)]

    def probe(self, number: int) -> redis.Redis:
        """A client of a shard that gives up soon."""
        if number not in self._probes:
            shard = shard_config(self.config, number)
            self._probes[number] = connect(shard, connections=2, timeout_s=ASK_TIMEOUT_S)
        return self._probes[number]

    def look(self) -> Layout:
        """Ask how many there are, unless that was done a moment ago; where none answers, it is as before.

        Raises:
            OtherProtocol: there are others than this process was started with, naming both numbers.
        """
        if time.monotonic() - self._looked_at >= FRESH_S:
            self._take(self.answers(self.layout.attended))
        return self.layout

    def agree(self) -> Layout:
        """Ask how many there are, and note the newest answer on each shard that has an older one, or none.

        Raises:
            OtherProtocol: there are others than this process was started with, naming both numbers.
        """
        self.doubted = False
        answers = self.answers(self.layout.attended)
        try:
            self._take(answers)
        except OtherProtocol:
            self.doubted = True
            raise
        layout = self.layout
        for number in range(layout.attended):
            answer = answers.get(number)
            if isinstance(answer, Answer) and (answer.noted is None or answer.noted.layout != layout):
                self._note(number, layout)
        return layout

    def remembers(self, number: int) -> bool:
        """Whether a shard may know keys that it accepted before the number was changed; then it is to be asked."""
        return time.monotonic() < self._forgets_at.get(number, float("inf"))

    def _note(self, number: int, layout: Layout) -> None:
        key = shards_key(shard_config(self.config, number))
        self._forgets_at.pop(number, None)
        try:
            noted = read_note(b" ".join(NOTE(self.probe(number), [key], [layout.text(), layout.changed_ms, ""])))
        except redis.RedisError:
            return
        if noted and noted.layout == layout:
            self._forgets_at[number] = time.monotonic() + self.config.idempotency_ttl_ms / 1000
        else:
            self.doubted = True  # it was changed meanwhile

    def answers(self, count: int) -> dict[int, Answer | redis.RedisError]:
        """What each of the first `count` shards has noted, and of all that they name."""
        answers: dict[int, Answer | redis.RedisError] = {}
        while missing := [number for number in range(count) if number not in answers]:
            answers |= zip(missing, together(self._answer, missing, ASKED_AT_ONCE), strict=True)
            count = max([count, *(layout.attended for layout in _layouts(answers.values()))])
        return answers

    def _answer(self, number: int) -> Answer | redis.RedisError:
        client: Any = self.probe(number)
        key = shards_key(shard_config(self.config, number))
        try:
            noted = client.get(key)
            seconds, microseconds = client.time()
        except redis.RedisError as error:
            return error
        return Answer(read_note(noted), seconds * 1000 + microseconds // 1000)

    def _take(self, answers: Mapping[int, Answer | redis.RedisError]) -> None:
        """Take over the newest layout that a shard has noted."""
        newest = max(_layouts(answers.values()), key=lambda layout: layout.changed_ms, default=None)
        if newest and not self._found and self.config.shards not in (newest.count, newest.before):
            raise OtherProtocol(
                f"The shard {shard_config(self.config, 0).namespace} is one of {newest.count}, not of "
                f"{self.config.shards}: set ZEROLOSS_SHARDS to that, or change it by the command `shards "
                f"{self.config.shards}`."
            )
        self._looked_at = time.monotonic()
        if newest is None:
            return
        if newest.changed_ms > self.layout.changed_ms or not self._found:
            self.layout, self._found = newest, True
        forgets_at = {}
        for number, answer in answers.items():
            if isinstance(answer, Answer) and answer.noted and answer.noted.layout == self.layout:
                left_ms = answer.noted.since_ms + self.config.idempotency_ttl_ms - answer.time_ms
                forgets_at[number] = time.monotonic() + left_ms / 1000
        self._forgets_at = forgets_at


class EachShard(Mapping[str, T]):
    """What there is one of for each shard, by namespace; it is made when a shard is first asked for."""

    def __init__(self, shards: Shards, make: Callable[[Config], T]) -> None:
        self._shards, self._make = shards, make
        self._made: dict[str, T] = {}

    def __getitem__(self, namespace: str) -> T:
        config = next((each for each in self._shards.configs() if each.namespace == namespace), None)
        if config is None:
            raise KeyError(namespace)
        if namespace not in self._made:
            self._made[namespace] = self._make(config)
        return self._made[namespace]

    def __iter__(self) -> Iterator[str]:
        return iter([each.namespace for each in self._shards.configs()])

    def __len__(self) -> int:
        return self._shards.layout.attended


def refuse_old_servers(config: Config) -> None:
    """Refuse a server of any shard that cannot run the queue's scripts, if it says so.

    Raises:
        ConfigError: a server is too old.
        OtherProtocol: there are others than configured.
    """
    shards = Shards(config)
    shards.look()
    for shard in shards.configs():
        refuse_old_server(shard)


def refuse_at_start(config: Config) -> None:
    """Refuse what a part cannot work with on any shard that answers at once.

    Raises:
        ConfigError: a server is too old, or the URL cannot be used.
        OtherProtocol: a shard is of another protocol, or there are others than configured.
    """
    shards = Shards(config)
    shards.agree()
    for shard in shards.configs():
        protocol.refuse_at_start(shard)


def _layouts(answers: Iterable[Answer | redis.RedisError]) -> list[Layout]:
    return [answer.noted.layout for answer in answers if isinstance(answer, Answer) and answer.noted]


def together(ask: Callable[[S], T], shards: Collection[S], at_once: int = SHARDS_MAX) -> list[T]:
    """Ask several shards at once: of those that hang none is waited for after another."""
    if len(shards) < 2:
        return [ask(shard) for shard in shards]
    with ThreadPoolExecutor(min(len(shards), at_once)) as threads:
        return list(threads.map(ask, shards))
