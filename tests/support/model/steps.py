"""Everything that may happen next in a `World`: to its producer, its consumers, its reapers, and its server.

Time is not counted: whatever may happen later may happen now. So a pause is no step, others simply go first; only what
a pause or a crash costs is: a lease that ends while its worker lives, a reply that is lost, a server that comes back
without its last writes. The number of such faults is bounded.

What needs no step of its own: a reply that arrives late changes only what its reader believes, and nobody else can
see that; a command that arrives late is a client that was slow to send it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from zeroloss.invariants import INVARIANTS, Answer, Transition

from support.model import model
from support.model.model import Entry, Lease, State
from support.model.world import Bounds, Client, Process, Protocol, Step, World, name_of, task_id

LOST = ", and the reply is lost"


def steps(protocol: Protocol, bounds: Bounds, world: World) -> Iterator[Step]:
    """Everything that may happen next."""
    for step in _all_steps(protocol, bounds, world):
        after = step.world
        if after.lasting is not None and world.lasting is not None and after.server != world.server:
            if after.unwritten == bounds.unwritten:
                continue
            step = step._replace(world=after._replace(unwritten=after.unwritten + 1))
        yield step


def _all_steps(protocol: Protocol, bounds: Bounds, world: World) -> Iterator[Step]:
    yield from _producer(protocol, bounds, world)
    for number, client in enumerate(world.clients):
        if client.process is Process.LIVES:
            yield from _worker(protocol, bounds, world, number)
        yield from _time(protocol, world, number)
        yield from _recovery(protocol, world, number)
    yield from _maintenance(protocol, world)
    yield from _loss_of_the_log(bounds, world)


def _fault(world: World) -> World:
    return world._replace(faults=world.faults - 1, executed=None)


def _with(world: World, number: int, client: Client, server: State | None = None) -> World:
    clients = (*world.clients[:number], client, *world.clients[number + 1 :])
    return world._replace(clients=clients, server=world.server if server is None else server)


def _replies(
    world: World, says: str, of: tuple[Any, ...], arrived: World, lost: World, found: Any = ()
) -> Iterator[Step]:
    """A command was executed: its reply arrives, or does not."""
    yield Step(says, of, arrived, True, tuple(found))
    if world.faults:
        yield Step(says + LOST, of, _fault(lost), False, tuple(found))


def _producer(protocol: Protocol, bounds: Bounds, world: World) -> Iterator[Step]:
    """One wish after the other; without an answer it is sent again, at any time, if it has a key."""
    for number, (wish, (attempts, answered)) in enumerate(zip(bounds.wishes, world.asked, strict=True)):
        if answered or (attempts and wish[1] is None):
            continue
        new_id = task_id(number, attempts)
        server, answers = protocol.enqueue(world.server, [wish], [new_id])
        promises = world.promises
        if answers == [new_id]:
            promises = promises._replace(accepted=(*promises.accepted, new_id))
        told = promises
        if wish[1] is not None:
            told = promises._replace(answers=(*promises.answers, Answer(wish[1], wish[0], answers[0])))
        asked = [(*world.asked[:number], (attempts + 1, got), *world.asked[number + 1 :]) for got in (True, False)]
        yield from _replies(
            world,
            "the producer submits {}" + (" again" if attempts else ""),
            (task_id(number, 0),),
            world._replace(server=server, promises=told, asked=asked[0]),
            world._replace(server=server, promises=promises, asked=asked[1]),
        )
        if not attempts:
            return  # the wishes behind it are sent after it


def _worker(protocol: Protocol, bounds: Bounds, world: World, number: int) -> Iterator[Step]:
    name, client, server = name_of(number), world.clients[number], world.server
    held = server.holding(name)
    if not server.lives(name):
        renewed = client._replace(unsure=client.unsure or client.hand != held, long_gone=False)
        yield Step("{} renews its lease", (name,), _with(world, number, renewed, model.renew(server, name)))
    entry = client.next()
    if entry is not None:
        ran = _with(world, number, client._replace(done=client.done | {entry}))
        ran = ran._replace(completed=world.completed | {entry.id})
        if ran.executed is not None:
            ran = ran._replace(executed=(*ran.executed, entry.id))
        yield Step("{} runs {} to its end", (name, (entry,)), ran)
    if client.unsure:
        read = client._replace(hand=held, done=client.done & frozenset(held), unsure=False)
        yield Step("{} reads its list", (name,), _with(world, number, read))
    else:
        yield from _settle(protocol, bounds, world, number)
        if entry is not None:
            yield from _end_early(protocol, world, number, entry)
        elif not client.hand:
            yield from _wait_or_leave(world, number)
    if world.faults and (name in server.leases or held):
        for process in (Process.DEAD, Process.DEAD_WAITING)[: 1 if client.hand else 2]:
            waiting = " while it waits in BLMOVE" if process is Process.DEAD_WAITING else ""
            dead = Client(process, long_gone=client.long_gone)
            yield Step("{} crashes" + waiting, (name,), _fault(_with(world, number, dead)), False)


def _settle(protocol: Protocol, bounds: Bounds, world: World, number: int) -> Iterator[Step]:
    name, client, server = name_of(number), world.clients[number], world.server
    done = [entry for entry in client.hand if entry in client.done]
    room = bounds.hand - len(client.hand) + len(done)
    for limit in {0, min(1, room), room}:
        if not done and not (limit and server.pending):
            continue
        after, (refused, claimed) = protocol.settle(server, name, done, limit)
        if limit and not claimed:
            continue  # the same as with a limit of 0
        held = server.holding(name)
        found = [text for entry in done for text in _ownership("ack", name, entry, held, entry not in refused)]
        acked = client.without(done)
        says = ["{} acks {}"] * bool(done) + ["{} claims {}"] * bool(claimed)
        of = (name, done) * bool(done) + (name, claimed) * bool(claimed)
        yield from _replies(
            world,
            " and ".join(says),
            of,
            _with(world, number, acked._replace(hand=(*acked.hand, *claimed)), after),
            _with(world, number, client._replace(unsure=True), after),
            found,
        )


def _end_early(protocol: Protocol, world: World, number: int, entry: Entry) -> Iterator[Step]:
    """Its handler raises, or what is not begun is given back."""
    name, client, server = name_of(number), world.clients[number], world.server
    held = server.holding(name)
    after, failed = protocol.fail(server, name, entry, "no")
    found = _ownership("fail", name, entry, held, failed)
    failing = world._replace(executed=None)
    if failed:
        promises = world.promises
        failing = failing._replace(promises=promises._replace(raised=_one_more(promises.raised, [entry])))
    forgotten = client.without([entry])
    yield from _replies(
        world,
        "the handler of {} raises and it fails {}",
        (name, (entry,)),
        _with(failing, number, forgotten, after),
        _with(failing, number, client._replace(unsure=True), after),
        found,
    )
    idle = [waiting for waiting in client.hand if waiting not in client.done]
    after, released = protocol.release(server, name, idle)
    found = [text for task in idle[:released] for text in _ownership("release", name, task, held, True)]
    forgotten = client.without(idle)
    yield from _replies(
        world,
        "{} gives {} back",
        (name, idle),
        _with(world, number, forgotten, after),
        _with(world, number, forgotten._replace(unsure=True), after),
        found,
    )


def _ownership(verb: str, name: str, entry: Entry, held: Iterable[Entry], succeeded: bool) -> list[str]:
    """I3 over one transition, with each task said in a few words."""
    if not succeeded or entry in held:
        return []
    said = [f"{task.id}, attempt {task.attempt}".encode() for task in (entry, *held)]
    return [f"I3: {text}" for text in INVARIANTS["I3"].check([Transition(verb, name, said[0], said[1:], succeeded)])]


def _wait_or_leave(world: World, number: int) -> Iterator[Step]:
    name, client, server = name_of(number), world.clients[number], world.server
    # With a living lease BLMOVE is a claim like another; it cannot see that the lease has ended.
    if server.pending and not server.lives(name) and (name in server.leases or client.long_gone):
        after = model.hand_over_late(server, name)
        yield from _replies(
            world,
            "{}, its lease ended, is handed {} by a BLMOVE",
            (name, server.pending[:1]),
            _with(world, number, client._replace(hand=server.pending[:1]), after),
            _with(world, number, client._replace(unsure=True), after),
        )
    if name in server.leases:
        after, left = model.leave(server, name)
        remains = Client(Process.DEAD) if left else client._replace(unsure=True)
        yield Step("{} leaves", (name,), _with(world, number, remains, after))


def _time(protocol: Protocol, world: World, number: int) -> Iterator[Step]:
    """What happens to a consumer while it does nothing."""
    name, client, server = name_of(number), world.clients[number], world.server
    dead = client.process is not Process.LIVES
    lease = server.leases.get(name)
    if lease is Lease.LIVES and dead:
        yield Step("the lease of {} ends", (name,), world._replace(server=protocol.expire(server, name)))
    elif lease is Lease.LIVES and world.faults:
        paused = _fault(world)._replace(server=protocol.expire(server, name))
        yield Step("{} is paused and its lease ends", (name,), paused, False)
    elif lease is Lease.ENDED:
        old = client._replace(process=Process.DEAD if dead else client.process, long_gone=True)
        yield Step("the tombstone of {} grows old", (name,), _with(world, number, old, model.grow_old(server, name)))
    if client.process is Process.DEAD_WAITING and server.pending:
        after = model.hand_over_late(server, name)
        served = _with(world, number, client._replace(process=Process.DEAD), after)
        yield Step("Redis hands {} to the dead {}", (server.pending[:1], name), served)
    # Under a new name, of which a log that may still be lost knows nothing: so not before that is decided.
    if dead and lease is None and not server.holding(name) and world.lasting is None:
        yield Step("another takes the place of {}", (name,), _with(world, number, Client()))


def _recovery(protocol: Protocol, world: World, number: int) -> Iterator[Step]:
    name = name_of(number)
    held = world.server.holding(name)
    if not held:
        return
    after, moved = protocol.recover(world.server, name)
    if moved:
        promises = world.promises._replace(vanished=_one_more(world.promises.vanished, held))
        yield Step("a reaper recovers {} from {}", (held, name), world._replace(server=after, promises=promises))


def _maintenance(protocol: Protocol, world: World) -> Iterator[Step]:
    server = world.server
    for entry in server.delayed:
        after, moved = protocol.promote(model.backoff_ends(server, entry))
        if moved:
            yield Step("the backoff of {} ends, a reaper promotes it", ((entry,),), world._replace(server=after))
    after, _ = protocol.adopt(server)
    if after.leases != server.leases:
        yield Step("a reaper adopts lists and forgets old tombstones", (), world._replace(server=after))
    for says, after in protocol.half_done(server):
        if world.faults:
            yield Step(says, (), _fault(world)._replace(server=after), False)


def _loss_of_the_log(bounds: Bounds, world: World) -> Iterator[Step]:
    if world.lasting is None:
        if world.faults and bounds.unwritten and not world.restarted:
            frozen = _fault(world)._replace(lasting=(world.server, world.promises))
            yield Step("from here on nothing reaches the server's disk", (), frozen, False)
        return
    server, promises = world.lasting
    clients = tuple(
        client._replace(
            process=Process.LIVES if client.process is Process.LIVES else Process.DEAD,
            unsure=client.process is Process.LIVES,
            long_gone=client.long_gone or client.process is not Process.LIVES or name_of(number) in world.server.leases,
        )
        for number, client in enumerate(world.clients)
    )
    back = world._replace(
        server=server, promises=promises, clients=clients, lasting=None, unwritten=0, restarted=True, executed=None
    )
    yield Step("the server is killed and comes back without what was not written", (), back)


def _one_more(counts: frozenset[tuple[str, int]], entries: Iterable[Entry]) -> frozenset[tuple[str, int]]:
    new = dict(counts)
    for entry in entries:
        new[entry.id] = new.get(entry.id, 0) + 1
    return frozenset(new.items())
