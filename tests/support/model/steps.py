"""All possible next steps in a `World`: of its producer, consumers, reapers and server.

There is no clock: an event that may happen later may happen now. A pause is therefore not a step; other processes go
first. The effects of a pause or crash are steps: a lease that ends while its worker lives, a lost reply, a request that
is carried out late or twice, a server that restarts without its last writes. The number of such faults is bounded.

Three events need no separate step. A late reply changes only the belief of its reader, which no other process sees. A
late renewal equals a client that sends it late. Events between the ring that ends a wait and its claim leave the bell
correct, as if they had happened before the ring.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from zeroloss.invariants import INVARIANTS, Answer, Transition

from support.model import model
from support.model.model import Delivery, State
from support.model.world import Bounds, Client, Protocol, Request, Step, World, name_of, task_id

LOST = ", and the reply is lost"
LATE = ", which takes long, and is given up"
REPEATED = ", and the network repeats it"


def steps(protocol: Protocol, bounds: Bounds, world: World) -> Iterator[Step]:
    """Yield all possible next steps."""
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
        if client.lives:
            yield from _worker(protocol, bounds, world, number)
        yield from _late_requests(protocol, world, number)
        yield from _time(world, number)
        yield from _recovery(protocol, bounds, world, number)
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
    """Yield the two outcomes of an executed command: its reply arrives, or is lost."""
    yield Step(says, of, arrived, True, tuple(found))
    if world.faults:
        yield Step(says + LOST, of, _fault(lost), False, tuple(found))


def _producer(protocol: Protocol, bounds: Bounds, world: World) -> Iterator[Step]:
    """Yield the producer's submissions, in order. A wish with a key may be sent again while it has no answer."""
    for number, (wish, (attempts, answered)) in enumerate(zip(bounds.wishes, world.asked, strict=True)):
        if answered or (attempts and wish.key is None):
            continue
        new_id = task_id(number, attempts)
        server, answers = protocol.enqueue(world.server, [wish], [new_id])
        promises = world.promises
        if answers == [new_id]:
            promises = promises._replace(accepted=(*promises.accepted, new_id))
        told = promises
        if wish.key is not None:
            told = promises._replace(answers=(*promises.answers, Answer(wish.key, wish.payload, answers[0])))
        asked = [(*world.asked[:number], (attempts + 1, got), *world.asked[number + 1 :]) for got in (True, False)]
        yield from _replies(
            world,
            "the producer submits {}" + (" again" if attempts else ""),
            (task_id(number, 0),),
            world._replace(server=server, promises=told, asked=asked[0]),
            world._replace(server=server, promises=promises, asked=asked[1]),
        )
        if not attempts:
            return  # later wishes are sent after this one


def _worker(protocol: Protocol, bounds: Bounds, world: World, number: int) -> Iterator[Step]:
    name, client, server = name_of(number), world.clients[number], world.server
    held = server.holding(name)
    unsure = client.unsure or protocol.has_to_read(client, not server.lives(name), len(held))
    if unsure != client.unsure or not server.lives(name):
        renewed = protocol.renew(server, name, client.given)
        yield Step("{} renews its lease", (name,), _with(world, number, client._replace(unsure=unsure), renewed))
    delivery = client.next()
    if delivery is not None:
        ran = _with(world, number, client._replace(done=client.done | {delivery.number}))
        ran = ran._replace(completed=world.completed | {delivery.entry.id})
        if ran.executed is not None:
            ran = ran._replace(executed=(*ran.executed, delivery.entry.id))
        yield Step("{} runs {} to its end", (name, (delivery,)), ran)
    if client.awaited:
        yield from _waits(protocol, bounds, world, number)
    if client.unsure:
        yield Step("{} reads its hash", (name,), _with(world, number, protocol.reconciled(client, held)))
    else:
        yield from _settle(protocol, bounds, world, number)
        if delivery is not None:
            yield from _end_early(protocol, world, number, delivery)
        if bounds.waits and not (client.awaited or client.hand or server.waiting) and server.lives(name):
            waits = client._replace(given=client.given + 1, awaited=client.given + 1)
            yield Step("{} waits", (name,), _with(world, number, waits))
        if bounds.leaves and name in server.leases:
            yield from _leaves(protocol, world, number)
    if world.faults and (name in server.leases or held):
        yield Step("{} crashes", (name,), _fault(_with(world, number, _dead(client))), False)


def _leaves(protocol: Protocol, world: World, number: int) -> Iterator[Step]:
    """Yield a worker's leaving: one step acks and gives back. After a lost reply it reads its hash and leaves again."""
    name, client, server = name_of(number), world.clients[number], world.server
    done = tuple(each for each in client.hand if each.number in client.done)
    unbegun = tuple(each for each in client.hand if each.number not in client.done)
    numbers = [each.number for each in done]
    after, (left, lost) = protocol.leave(server, name, numbers, [each.number for each in unbegun])
    remains = _dead(client) if left else client._replace(hand=(), done=frozenset(), unsure=True)
    says = "{} leaves" + ", acks {}" * bool(done) + ", gives {} back" * bool(unbegun)
    yield from _replies(
        world,
        says,
        (name, *(each for each in (done, unbegun) if each)),
        _with(world, number, remains, after),
        _with(world, number, protocol.given_up(client.without(each.number for each in unbegun)), after),
        _ownership("ack", name, numbers, server.holding(name), lost),
    )


def _dead(client: Client) -> Client:
    """Return a dead client. Redis has not noticed its death: requests under way may still be carried out."""
    under_way = [Request(client.awaited)] if client.awaited and not client.reply else []
    return Client(lives=False, late=client.late).and_late(*under_way)


def _waits(protocol: Protocol, bounds: Bounds, world: World, number: int) -> Iterator[Step]:
    """Yield the outcomes of a wait, which sends BLPOP and claim together. The worker may act in the meantime."""
    name, client, server = name_of(number), world.clients[number], world.server
    ended, request = client._replace(awaited=0, reply=None), Request(client.awaited)
    if client.reply:
        brought = ended._replace(hand=(*client.hand, client.reply))
        yield from _replies(
            world,
            "the reply to the wait of {} arrives",
            (name,),
            _with(world, number, brought),
            _with(world, number, protocol.given_up(ended)),
        )
        return
    if server.bell or server.waiting or not server.lives(name):
        rings = "the bell rings for {}" if server.bell else "the wait of {} times out"
        after, settled = protocol.settle(model.take_bell(server), name, client.awaited, (), 1)
        if settled.claimed:
            served = client._replace(reply=settled.claimed[0])
            says, of = rings + ", and its claim takes {}", (name, settled.claimed)
            yield Step(says, of, _with(world, number, served, after))
            if world.faults and bounds.network:
                repeated = _with(world, number, served.and_late(request), after)
                yield Step(says + REPEATED, of, _fault(repeated), False)
        else:
            found = ended._replace(unsure=client.unsure or not settled.lives)
            yield Step(rings + ", and its claim finds nothing", (name,), _with(world, number, found, after))
    if world.faults and bounds.network:
        late = protocol.given_up(ended).and_late(request)
        yield Step("{} waits" + LATE, (name,), _fault(_with(world, number, late)), False)


def _settle(protocol: Protocol, bounds: Bounds, world: World, number: int) -> Iterator[Step]:
    name, client, server = name_of(number), world.clients[number], world.server
    done = tuple(each for each in client.hand if each.number in client.done)
    numbers = tuple(each.number for each in done)
    room = 0 if client.awaited else bounds.hand - len(client.hand) + len(done)
    first = client.given + 1
    several = sum(map(bool, server.pending)) > 1
    for limit in {0, min(1, room), room}:
        if not done and not (limit and server.waiting):
            continue
        request = Request(first, limit, numbers)
        for turn in (1, 0, model.TURNS // 2) if several and limit else (1,):
            after, settled = protocol.settle(server, name, *_of(request), turn)
            if limit and not settled.claimed:
                continue  # the same as with a limit of 0
            found = _ownership("ack", name, numbers, server.holding(name), settled.lost)
            asked = client._replace(given=client.given + limit)
            acked = asked.without(numbers)
            acked = acked._replace(hand=(*acked.hand, *settled.claimed), unsure=not settled.lives)
            says = " and ".join(["{} acks {}"] * bool(done) + ["{} claims {}"] * bool(settled.claimed))
            of = (name, done) * bool(done) + (name, settled.claimed) * bool(settled.claimed)
            lost = protocol.given_up(asked)
            yield from _replies(
                world, says, of, _with(world, number, acked, after), _with(world, number, lost, after), found
            )
            if world.faults and bounds.network:
                repeated = _with(world, number, acked.and_late(request), after)
                yield Step(says + REPEATED, of, _fault(repeated), False, tuple(found))
        if world.faults and bounds.network:
            late = protocol.given_up(client._replace(given=client.given + limit)).and_late(request)
            says = " and ".join(["{} acks {}"] * bool(done) + ["{} claims"] * bool(limit))
            of = (name, done) * bool(done) + (name,) * bool(limit)
            yield Step(says + LATE, of, _fault(_with(world, number, late)), False)


def _of(request: Request) -> tuple[int, tuple[int, ...], int]:
    return request.first, request.done, request.limit


def _late_requests(protocol: Protocol, world: World, number: int) -> Iterator[Step]:
    name, client, server = name_of(number), world.clients[number], world.server
    for request in dict.fromkeys(client.late):
        place = client.late.index(request)
        others = client.late[:place] + client.late[place + 1 :]
        after, settled = protocol.settle(server, name, *_of(request))
        found = _ownership("ack", name, request.done, server.holding(name), settled.lost)
        says, of = "a late request of {} is carried out", (name,)
        if settled.claimed:
            says, of = says + ", and claims {}", (name, settled.claimed)
        yield Step(says, of, _with(world, number, client._replace(late=others), after), True, tuple(found))


def _end_early(protocol: Protocol, world: World, number: int, delivery: Delivery) -> Iterator[Step]:
    """Yield the steps that end a delivery without an ack: its handler raises, or the worker gives it back."""
    name, client, server = name_of(number), world.clients[number], world.server
    held = server.holding(name)
    after, failed = protocol.fail(server, name, delivery.number, "no")
    found = _ownership("fail", name, [delivery.number], held, () if failed else [delivery.number])
    failing = world._replace(executed=None)
    if failed:
        promises = world.promises
        failing = failing._replace(promises=promises._replace(raised=_one_more(promises.raised, [delivery])))
    yield from _replies(
        world,
        "the handler of {} raises and it fails {}",
        (name, (delivery,)),
        _with(failing, number, client.without([delivery.number]), after),
        _with(failing, number, protocol.given_up(client), after),
        found,
    )
    idle = [waiting for waiting in client.hand if waiting.number not in client.done]
    numbers = [waiting.number for waiting in idle]
    after, released = protocol.release(server, name, numbers)
    strangers = [number for number in numbers if number not in dict(held)]
    others = max(0, released - len(numbers) + len(strangers))
    found = _ownership("release", name, strangers[:others], held, ())
    yield from _replies(
        world,
        "{} gives {} back",
        (name, idle),
        _with(world, number, client.without(numbers), after),
        _with(world, number, protocol.given_up(client.without(numbers)), after),
        found,
    )


def _ownership(
    verb: str, name: str, numbers: Iterable[int], held: Iterable[Delivery], refused: Collection[int]
) -> list[str]:
    """Check I3 for some transitions."""
    known = {number for number, _ in held}
    tried = [Transition(verb, name, number, known, number not in refused) for number in numbers]
    return [f"I3: {text}" for text in INVARIANTS["I3"].check(tried)]


def _time(world: World, number: int) -> Iterator[Step]:
    """Yield the events that need no action of the consumer: its lease ends, or another consumer replaces it."""
    name, client, server = name_of(number), world.clients[number], world.server
    if server.lives(name):
        ended = world._replace(server=model.expire(server, name))
        if not client.lives:
            yield Step("the lease of {} ends", (name,), ended)
        elif world.faults:
            yield Step("{} is paused and its lease ends", (name,), _fault(ended), False)
    # The replacement has a new name, which a log that may be lost does not contain: wait until that is decided.
    elif not client.lives and name not in server.leases and not server.holding(name) and world.lasting is None:
        after = model.renew(server, name)
        yield Step("another takes the place of {}", (name,), _with(world, number, Client(), after))


def _recovery(protocol: Protocol, bounds: Bounds, world: World, number: int) -> Iterator[Step]:
    """Yield one script of a recovery. A parent that saw its child die does not wait for the end of the lease."""
    name, server = name_of(number), world.server
    if name not in server.leases:
        return
    for who, is_dead in (("a reaper", False), ("its parent", True)):
        if is_dead and (world.clients[number].lives or not server.lives(name)):
            continue
        after, _ = protocol.recover(server, name, bounds.batch, is_dead=is_dead)
        if after == server:
            continue
        left = {each.number for each in after.holding(name)}
        moved = [each for each in server.holding(name) if each.number not in left]
        promises = world.promises._replace(vanished=_one_more(world.promises.vanished, moved))
        says, of = (who + " recovers {} from {}", (moved, name)) if moved else (who + " removes {}", (name,))
        found = _order(protocol, bounds, server, name) if moved else []
        if server.lives(name) and not is_dead:
            found += [f"I3: Task {entry.id} was taken from {name}, whose lease lives." for _, entry in moved]
        yield Step(says, of, world._replace(server=after, promises=promises), True, tuple(found))


def _order(protocol: Protocol, bounds: Bounds, server: State, name: str) -> list[str]:
    """Check I7 for a recovery: the tasks that one consumer held end up in the order in which it claimed them."""
    held = [each.entry for each in server.holding(name)]
    after, left = model.expire(server, name), len(held)
    while left:
        after, (_, left) = protocol.recover(after, name, bounds.batch)
    found = []
    for priority in model.LISTS:
        before = [entry.id for entry in held if entry.priority == priority]
        claimable = [entry.id for entry in after.waiting if entry.id in before]
        found += [f"I7: {text}" for text in INVARIANTS["I7"].check(before, claimable)]
    return found


def _maintenance(protocol: Protocol, world: World) -> Iterator[Step]:
    server = world.server
    for entry in server.delayed:
        after, moved = protocol.promote(model.falls_due(server, entry))
        if moved:
            yield Step("{} falls due, and a reaper promotes it", ((entry,),), world._replace(server=after))
    if world.faults:
        for letter in server.dead:
            promises = world.promises._replace(
                raised=_none_of(world.promises.raised, letter.entry.id),
                vanished=_none_of(world.promises.vanished, letter.entry.id),
            )
            again = _fault(world)._replace(server=protocol.requeue(server, [letter]), promises=promises)
            yield Step("an operator requeues {}", ((letter,),), again, False)
        for says, after in protocol.half_done(server):
            yield Step(says, (), _fault(world)._replace(server=after), False)


def _loss_of_the_log(bounds: Bounds, world: World) -> Iterator[Step]:
    if world.lasting is None:
        if world.faults and bounds.unwritten and not world.restarted:
            frozen = _fault(world)._replace(lasting=(world.server, world.promises))
            yield Step("from here on nothing reaches the server's disk", (), frozen, False)
        return
    server, promises = world.lasting
    clients = tuple(client._replace(unsure=client.lives, awaited=0, reply=None, late=()) for client in world.clients)
    back = world._replace(
        server=server, promises=promises, clients=clients, lasting=None, unwritten=0, restarted=True, executed=None
    )
    yield Step("the server is killed and comes back without what was not written", (), back)


def _one_more(counts: frozenset[tuple[str, int]], deliveries: Collection[Delivery]) -> frozenset[tuple[str, int]]:
    new = dict(counts)
    for _, entry in deliveries:
        new[entry.id] = new.get(entry.id, 0) + 1
    return frozenset(new.items())


def _none_of(counts: frozenset[tuple[str, int]], task: str) -> frozenset[tuple[str, int]]:
    return frozenset(pair for pair in counts if pair[0] != task)
