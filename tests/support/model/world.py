"""Those who use the model's queue, as one value: a producer, consumers, a server, and what each of them believes.

What may happen to it is in steps.py, what has to hold in it in laws.py, and search.py visits all that can be reached.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from zeroloss.invariants import Answer

from support.model import model
from support.model.model import Entry, State, Wish


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The verbs of the queue. A planted mistake (planted.py) replaces one of them.

    `half_done`: what a verb of several steps leaves behind when whoever takes them dies in between.
    """

    enqueue: Callable[..., Any] = model.enqueue
    settle: Callable[..., Any] = model.settle
    fail: Callable[..., Any] = model.fail
    release: Callable[..., Any] = model.release
    expire: Callable[..., Any] = model.expire
    recover: Callable[..., Any] = model.recover
    promote: Callable[..., Any] = model.promote
    adopt: Callable[..., Any] = model.adopt
    half_done: Callable[[State], Iterable[tuple[str, State]]] = lambda state: ()


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far a search goes: all of what is possible within these numbers.

    `faults`: crashes, leases that end while their worker lives, lost replies, losses of the log, in one story.
    `hand`: how many tasks a consumer has in hand at most. `unwritten`: how many writes a restart loses at most.
    """

    consumers: int
    wishes: tuple[Wish, ...]
    faults: int
    max_retries: int = 1
    max_recoveries: int = 1
    hand: int = 1
    unwritten: int = 0


class Process(Enum):
    LIVES = "lives"
    DEAD = "dead"
    DEAD_WAITING = "dead, and Redis does not know yet that nobody waits in its BLMOVE"


class Client(NamedTuple):
    """One consumer's process, with one handler thread: what it believes, which may differ from what Redis holds."""

    process: Process = Process.LIVES
    hand: tuple[Entry, ...] = ()  # the first that is not done is begun next
    done: frozenset[Entry] = frozenset()  # of those in hand: ran to their end, and not acked
    unsure: bool = False  # it has to read its list before it says anything else
    long_gone: bool = False  # Redis may have forgotten it: its tombstone was old, or the server lost its last writes

    def next(self) -> Entry | None:
        return next((entry for entry in self.hand if entry not in self.done), None)

    def without(self, entries: Iterable[Entry]) -> "Client":
        gone = frozenset(entries)
        return self._replace(hand=tuple(e for e in self.hand if e not in gone), done=self.done - gone)


class Promises(NamedTuple):
    """What the server has said and done, as far as its log goes: what a lost log takes, it takes from here too.

    That is what the durability excuses, no more.
    """

    accepted: tuple[str, ...] = ()  # ids, in order
    answers: tuple[Answer, ...] = ()
    raised: frozenset[tuple[str, int]] = frozenset()  # id, how often its handler raised
    vanished: frozenset[tuple[str, int]] = frozenset()  # id, how often its worker was given up


class World(NamedTuple):
    server: State
    promises: Promises
    clients: tuple[Client, ...]
    asked: tuple[tuple[int, bool], ...]  # for each wish: how often it was sent, whether an answer came
    faults: int  # that may still happen
    completed: frozenset[str] = frozenset()  # ids whose handler ran to its end
    executed: tuple[str, ...] | None = ()  # in order, as long as I7 promises one; None from then on
    lasting: tuple[State, Promises] | None = None  # nothing written since then will survive
    unwritten: int = 0
    restarted: bool = False


class Step(NamedTuple):
    """`says` is a template for `of`, which are names and entries; `fair`: no fault, it will happen in the end."""

    says: str
    of: tuple[Any, ...]
    world: World
    fair: bool = True
    violations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.says.format(
            *(part if isinstance(part, str) else " and ".join(e.id for e in part) for part in self.of)
        )


def begin(bounds: Bounds) -> World:
    return World(
        State(max_pending=99, max_retries=bounds.max_retries, max_recoveries=bounds.max_recoveries),
        Promises(),
        (Client(),) * bounds.consumers,
        ((0, False),) * len(bounds.wishes),
        bounds.faults,
        executed=() if bounds.consumers == 1 else None,
    )


def name_of(number: int) -> str:
    return f"w{number + 1}"


def task_id(wish: int, attempt: int) -> str:
    """Each request that is sent makes an id of its own: t1, and t1' when it is sent again."""
    return f"t{wish + 1}" + "'" * attempt
