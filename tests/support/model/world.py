"""The users of the model's queue, as one value: a producer, consumers, a server, and what each of them believes.

What may happen to it is in steps.py, what must hold in it in laws.py, and search.py visits all that can be reached.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from zeroloss.invariants import Answer

from support.model import model
from support.model.model import Delivery, Entry, Lease, Letter, State, Wish


class Request(NamedTuple):
    """Acks and a claim that a server may yet carry out, though nobody waits for its reply."""

    first: int
    limit: int = 1
    done: tuple[int, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        return (*range(self.first, self.first + self.limit), *self.done)


class Client(NamedTuple):
    """One consumer's process: what it believes, which may differ from what Redis holds."""

    lives: bool = True
    hand: tuple[Delivery, ...] = ()  # the first that is not done is begun next
    done: frozenset[int] = frozenset()  # of those in hand: ran to their end, and not acked
    given: int = 0  # the highest number that a claim was sent with
    awaited: int = 0  # the number of the wait that is in flight; 0: none
    reply: Delivery | None = None  # what this wait has claimed: the reply is under way
    unsure: bool = False  # it must read its hash before it claims or acks anything
    late: tuple[Request, ...] = ()

    def next(self) -> Delivery | None:
        return next((delivery for delivery in self.hand if delivery.number not in self.done), None)

    def without(self, numbers: Iterable[int]) -> "Client":
        gone = frozenset(numbers)
        return self._replace(hand=tuple(d for d in self.hand if d.number not in gone), done=self.done - gone)

    def and_late(self, *requests: Request) -> "Client":
        return self._replace(late=tuple(sorted((*self.late, *requests))))


def _has_to_read(client: Client, lapsed: bool, holding: int) -> bool:
    """After a renewal. A lapse means nothing where nothing is held and nothing in hand."""
    return holding != len(client.hand) or (lapsed and holding > 0)


def _reconciled(client: Client, held: tuple[Delivery, ...]) -> Client:
    """What is held and not in hand is its next work, except under the number in flight; what is not held is not its."""
    numbers = {number for number, _ in held}
    known = client.without({number for number, _ in client.hand} - numbers)
    new = numbers - {number for number, _ in client.hand} - {client.awaited}
    return known._replace(hand=(*known.hand, *(d for d in held if d.number in new)), unsure=False)


def _given_up(client: Client) -> Client:
    """No reply came: the command was carried out, or will be, or never."""
    return client._replace(unsure=True)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The verbs of the queue, and what a worker concludes. A planted mistake (planted.py) replaces one of them.

    `half_done`: what a verb of several steps leaves behind when its process dies in between.
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
    """How far a search goes: all of what is possible within these numbers.

    `faults`: crashes, leases that end while their worker lives, replies that are lost, requests that are late or
    repeated, losses of the log, letters requeued, in one story. `hand`: how many tasks a consumer has in hand at most.
    `waits`: whether consumers wait for the bell, too. `network`: whether a request may be late or repeated, too.
    `unwritten`: how many writes a restart loses at most. `batch`: how many tasks one script of a recovery moves.
    `leaves`: whether workers leave, which reads again what they hold: a worker that stays must not depend on it.
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
    """What the server has said and done, as far as its log goes: what a lost log takes, it takes from here too.

    That is what the durability excuses, no more.
    """

    accepted: tuple[str, ...] = ()  # ids, in order
    answers: tuple[Answer, ...] = ()
    raised: frozenset[tuple[str, int]] = frozenset()  # id, how often its handler raised since the last requeue
    vanished: frozenset[tuple[str, int]] = frozenset()  # id, how often its worker was given up since then


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
    """`says` is a template for `of`; `fair`: no fault, it will happen in the end."""

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
    """Every consumer has its first lease."""
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
    """Each request that is sent makes an id of its own: t1, and t1' when it is sent again."""
    return f"t{wish + 1}" + "'" * attempt
