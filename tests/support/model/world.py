"""The model's queue and its users as one value: a server, a producer, consumers, and the beliefs of each client.

steps.py has the possible events, laws.py the laws, and search.py visits all reachable states.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from zeroloss.invariants import Answer

from support.model import model
from support.model.model import Delivery, Entry, Lease, Letter, State, Wish


class Request(NamedTuple):
    """Acks and a claim that the server may still carry out, although the client has stopped waiting for the reply."""

    first: int
    limit: int = 1
    done: tuple[int, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        return (*range(self.first, self.first + self.limit), *self.done)


class Client(NamedTuple):
    """One consumer's process: its beliefs, which may differ from the state in Redis."""

    lives: bool = True
    hand: tuple[Delivery, ...] = ()  # the first one not in `done` is next
    done: frozenset[int] = frozenset()  # numbers in hand whose handlers have ended, not acked
    given: int = 0  # highest number sent in a claim
    awaited: int = 0  # number of the wait in flight, 0 without one
    reply: Delivery | None = None  # claimed by this wait; the reply is under way
    unsure: bool = False  # whether it must read its hash before the next claim or ack
    late: tuple[Request, ...] = ()

    def next(self) -> Delivery | None:
        return next((delivery for delivery in self.hand if delivery.number not in self.done), None)

    def without(self, numbers: Iterable[int]) -> "Client":
        gone = frozenset(numbers)
        return self._replace(hand=tuple(d for d in self.hand if d.number not in gone), done=self.done - gone)

    def and_late(self, *requests: Request) -> "Client":
        return self._replace(late=tuple(sorted((*self.late, *requests))))


def _has_to_read(client: Client, lapsed: bool, holding: int) -> bool:
    """Return whether the client must read its hash after a renewal. A lapse is harmless if it holds nothing."""
    return holding != len(client.hand) or (lapsed and holding > 0)


def _reconciled(client: Client, held: tuple[Delivery, ...]) -> Client:
    """Reconcile with the hash: add held deliveries, except the number in flight, and drop those that are not held."""
    numbers = {number for number, _ in held}
    known = client.without({number for number, _ in client.hand} - numbers)
    new = numbers - {number for number, _ in client.hand} - {client.awaited}
    return known._replace(hand=(*known.hand, *(d for d in held if d.number in new)), unsure=False)


def _given_up(client: Client) -> Client:
    """Stop waiting for a reply: the command may have been carried out, may be later, or never."""
    return client._replace(unsure=True)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The verbs of the queue, and the conclusions of a worker. A planted mistake (planted.py) replaces one of them.

    `half_done`: states that a verb of several steps leaves when its process dies in between.
    """

    enqueue: Callable[..., Any] = model.enqueue
    settle: Callable[..., Any] = model.settle
    fail: Callable[..., Any] = model.fail
    release: Callable[..., Any] = model.release
    leave: Callable[..., Any] = model.leave
    renew: Callable[..., Any] = model.renew
    recover: Callable[..., Any] = model.recover
    promote: Callable[..., Any] = model.promote
    requeue: Callable[..., Any] = model.requeue
    half_done: Callable[[State], Iterable[tuple[str, State]]] = lambda state: ()
    has_to_read: Callable[..., bool] = _has_to_read
    reconciled: Callable[..., Client] = _reconciled
    given_up: Callable[[Client], Client] = _given_up


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds of a search, which is exhaustive within them.

    `faults`: number, in one story, of crashes, leases that end while their worker lives, lost replies, late or repeated
    requests, losses of the log, and requeued letters. `hand`: maximum of tasks in a consumer's hand. `waits`: whether
    consumers also wait for the bell. `network`: whether requests may also be late or repeated. `unwritten`: maximum of
    writes that a restart loses. `batch`: number of tasks that one script of a recovery moves. `leaves`: whether workers
    leave. Leaving makes a worker read its hash; a worker that stays must not depend on that.
    """

    consumers: int
    wishes: tuple[Wish, ...]
    faults: int
    max_retries: int = 1
    max_recoveries: int = 1
    hand: int = 1
    waits: bool = False
    network: bool = False
    unwritten: int = 0
    batch: int = 1
    leaves: bool = True


class Promises(NamedTuple):
    """The server's answers and actions, as recorded in its log. A lost log removes them from here, too.

    The durability setting excuses only that loss.
    """

    accepted: tuple[str, ...] = ()  # ids, in order
    answers: tuple[Answer, ...] = ()
    raised: frozenset[tuple[str, int]] = frozenset()  # id, number of raises since the last requeue
    vanished: frozenset[tuple[str, int]] = frozenset()  # id, number of recoveries since the last requeue


class World(NamedTuple):
    server: State
    promises: Promises
    clients: tuple[Client, ...]
    asked: tuple[tuple[int, bool], ...]  # for each wish: number of requests, whether one was answered
    faults: int  # number that may still happen
    completed: frozenset[str] = frozenset()  # ids whose handler ran to its end
    executed: tuple[str, ...] | None = ()  # in order, while I7 promises an order; None afterwards
    lasting: tuple[State, Promises] | None = None  # the last state on disk; later writes will be lost
    unwritten: int = 0
    restarted: bool = False


class Step(NamedTuple):
    """`says` is a template for `of`; `fair`: the step is not a fault and happens eventually."""

    says: str
    of: tuple[Any, ...]
    world: World
    fair: bool = True
    violations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.says.format(*(part if isinstance(part, str) else _listed(part) for part in self.of))


def _listed(things: Iterable[Delivery | Entry | Letter]) -> str:
    return " and ".join(thing.id if isinstance(thing, Entry) else thing.entry.id for thing in things)


def begin(bounds: Bounds) -> World:
    """Return the initial world: every consumer has its first lease."""
    names = [name_of(number) for number in range(bounds.consumers)]
    return World(
        State(
            max_pending=99,
            max_scheduled=99,
            max_retries=bounds.max_retries,
            max_recoveries=bounds.max_recoveries,
            leases=dict.fromkeys(names, Lease.LIVES),
        ),
        Promises(),
        (Client(),) * bounds.consumers,
        ((0, False),) * len(bounds.wishes),
        bounds.faults,
        executed=() if bounds.consumers == 1 else None,
    )


def name_of(number: int) -> str:
    return f"w{number + 1}"


def task_id(wish: int, attempt: int) -> str:
    """Return the id that a request generates: t1, and t1' when the request is sent again."""
    return f"t{wish + 1}" + "'" * attempt
