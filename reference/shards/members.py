"""The present shards: each stores the layout, which has their number, and the newest layout counts."""

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
FRESH_S = 1.0  # minimum interval between two requests of `look`

S = TypeVar("S")
T = TypeVar("T")


class Answer(NamedTuple):
    """The answer of one shard: its note of the layout, and the time of its clock."""

    noted: Noted | None
    time_ms: int


class Shards:
    """Asks the shards how many there are; safe to share between threads and with forked processes.

    A process starts with a configured number. If no shard has stored a number yet, this one is stored; otherwise it
    must be the present number or the one before. From then on the process follows changes by itself.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layout = Layout(config.shards, config.shards)
        self.doubted = True  # whether the layout must be asked for again before it is used
        self._found = False  # whether the layout is from a shard, not from the configuration
        self._looked_at = -FRESH_S
        self._configs: dict[int, Config] = {}
        self._named: dict[str, Config] = {}
        self._probes: dict[int, redis.Redis] = {}
        self._forgets_at: dict[int, float] = {}  # shard -> when it has forgotten the keys of before (monotonic, s)

    def configs(self) -> list[Config]:
        """Return the settings of each shard that may hold tasks; shards that are only drained come last."""
        return list(self.named().values())

    def named(self) -> dict[str, Config]:
        """Return the settings of each shard that may hold tasks, by namespace."""
        named, count = self._named, self.layout.attended
        if len(named) != count:
            named = {each.namespace: each for each in map(self.config_of, range(count))}
            self._named = named
        return named

    def config_of(self, number: int) -> Config:
        """Return the settings of a shard, made once: they are checked as they are made, which takes time."""
        if number not in self._configs:
            self._configs[number] = shard_config(self.config, number)
        return self._configs[number]

    def probe(self, number: int) -> redis.Redis:
        """Return a client of a shard with a short timeout."""
        if number not in self._probes:
            self._probes[number] = connect(self.config_of(number), connections=2, timeout_s=ASK_TIMEOUT_S)
        return self._probes[number]

    def close(self) -> None:
        """Close the probes' connections; the next question opens new ones."""
        for client in list(self._probes.values()):
            client.close()

    def look(self) -> Layout:
        """Ask the shards for the layout, unless that was done a moment ago. Without an answer the layout stays.

        Raises:
            OtherProtocol: this process was started with another number; the text names both numbers.
        """
        if time.monotonic() - self._looked_at >= FRESH_S:
            self._take(self.answers(self.layout.attended))
        return self.layout

    def agree(self) -> Layout:
        """Ask the shards for the layout, and store the newest one on each shard that has an older one, or none.

        Raises:
            OtherProtocol: this process was started with another number; the text names both numbers.
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
        """Whether a shard may know keys that it accepted before the last change; then it must be asked for them."""
        return time.monotonic() < self._forgets_at.get(number, float("inf"))

    def _note(self, number: int, layout: Layout) -> None:
        key = shards_key(self.config_of(number))
        self._forgets_at.pop(number, None)
        try:
            noted = read_note(b" ".join(NOTE(self.probe(number), [key], [layout.text(), layout.changed_ms, ""])))
        except redis.RedisError:
            return
        if noted and noted.layout == layout:
            self._forgets_at[number] = time.monotonic() + self.config.idempotency_ttl_ms / 1000
        else:
            self.doubted = True  # the number was changed meanwhile

    def answers(self, count: int) -> dict[int, Answer | redis.RedisError]:
        """Return the answers of the first `count` shards, and of all further shards in the layouts that they store."""
        answers: dict[int, Answer | redis.RedisError] = {}
        while missing := [number for number in range(count) if number not in answers]:
            answers |= zip(missing, together(self._answer, missing, ASKED_AT_ONCE), strict=True)
            count = max([count, *(layout.attended for layout in _layouts(answers.values()))])
        return answers

    def _answer(self, number: int) -> Answer | redis.RedisError:
        client: Any = self.probe(number)
        key = shards_key(self.config_of(number))
        try:
            noted = client.get(key)
            seconds, microseconds = client.time()
        except redis.RedisError as error:
            return error
        return Answer(read_note(noted), seconds * 1000 + microseconds // 1000)

    def _take(self, answers: Mapping[int, Answer | redis.RedisError]) -> None:
        """Adopt the newest layout that a shard stores."""
        newest = max(_layouts(answers.values()), key=lambda layout: layout.changed_ms, default=None)
        if newest and not self._found and self.config.shards not in (newest.count, newest.before):
            raise OtherProtocol(
                f"The shard {self.config_of(0).namespace} is one of {newest.count}, not of "
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
    """One object for each shard, by namespace; it is made on the first access to a shard."""

    def __init__(self, shards: Shards, make: Callable[[Config], T]) -> None:
        self._shards, self._make = shards, make
        self._made: dict[str, T] = {}

    def __getitem__(self, namespace: str) -> T:
        config = self._shards.named()[namespace]
        if namespace not in self._made:
            self._made[namespace] = self._make(config)
        return self._made[namespace]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards.named())

    def made(self) -> list[T]:
        """Return the objects made so far, also those of shards that are no longer attended."""
        return list(self._made.values())

    def __len__(self) -> int:
        return self._shards.layout.attended


def refuse_old_servers(config: Config) -> None:
    """Refuse a server of any shard that reports a version too old for the queue's scripts.

    Raises:
        ConfigError: a server is too old.
        OtherProtocol: the number of shards is not the configured one.
    """
    shards = Shards(config)
    shards.look()
    for shard in shards.configs():
        refuse_old_server(shard)


def refuse_at_start(config: Config) -> None:
    """Refuse shards that cannot be used, if they answer at once.

    Raises:
        ConfigError: a server is too old, or the URL cannot be used.
        OtherProtocol: a shard has another protocol, or the number of shards is not the configured one.
    """
    shards = Shards(config)
    shards.agree()
    for shard in shards.configs():
        protocol.refuse_at_start(shard)


def _layouts(answers: Iterable[Answer | redis.RedisError]) -> list[Layout]:
    return [answer.noted.layout for answer in answers if isinstance(answer, Answer) and answer.noted]


def together(ask: Callable[[S], T], shards: Collection[S], at_once: int = SHARDS_MAX) -> list[T]:
    """Ask several shards at the same time, so that the waits for shards that hang overlap."""
    if len(shards) < 2:
        return [ask(shard) for shard in shards]
    with ThreadPoolExecutor(min(len(shards), at_once)) as threads:
        return list(threads.map(ask, shards))
