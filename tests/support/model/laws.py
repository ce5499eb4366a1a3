"""Check I1 to I8 in one state of the model's world, with the predicates of `zeroloss.invariants`."""

from collections.abc import Iterator
from typing import Any

from zeroloss.invariants import INVARIANTS

from support.model import model
from support.model.world import Bounds, Protocol, World, name_of, task_id


def violations(protocol: Protocol, bounds: Bounds, world: World) -> list[str]:
    server, promises = world.server, world.promises
    places: dict[str, Any] = {
        "pending": server.waiting,
        "delayed": (*server.delayed, *server.due),
        "dead_letter": [letter.entry for letter in server.dead],
        **{f"processing:{name}": [entry for _, entry in held] for name, held in server.held.items()},
    }
    ids = {place: [entry.id for entry in entries] for place, entries in places.items()}
    dead = {letter.entry.id: letter.reason and letter.error for letter in server.dead}
    in_hand = [entry for client in world.clients for _, entry in client.hand]
    waiting = {task for place, there in ids.items() if place != "dead_letter" for task in there}
    wished = {
        task_id(number, attempt): wish.payload
        for number, (wish, (attempts, _)) in enumerate(zip(bounds.wishes, world.asked, strict=True))
        for attempt in range(attempts)
    }
    everything = [(entry.id, entry.payload) for entries in (*places.values(), in_hand) for entry in entries]
    arguments: list[tuple[str, Any]] = [
        ("I1", (promises.accepted, server.finished, ids)),
        ("I2", (promises.accepted, world.completed, dead, waiting)),
        ("I6", (wished, everything)),
    ]
    if unclaimable := dict(_recoveries(protocol, bounds, world)):
        arguments.append(("I4", (unclaimable, 0.0)))
    if promises.raised:
        arguments.append(("I5", (dict(promises.raised), bounds.max_retries + 1, dead)))
    if promises.vanished:
        arguments.append(("I5", (dict(promises.vanished), bounds.max_recoveries + 1, dead)))
    if world.executed:
        arguments += [("I7", (accepted, world.executed)) for accepted in _orders(bounds, world)]
    if promises.answers:
        arguments.append(("I8", (promises.answers,)))
    found = [f"{law}: {text}" for law, given in arguments for text in INVARIANTS[law].check(*given)]
    if bool(server.waiting) != server.bell:
        found.append(
            f"Liveness: the bell {'rings for nothing' if server.bell else 'is silent while a task is pending'}."
        )
    return found + [f"I3: {text}" for text in _tokens(world)]


def _orders(bounds: Bounds, world: World) -> Iterator[list[str]]:
    """Yield, for each priority, the accepted tasks that must be executed in the order of acceptance."""
    for priority in model.LISTS:
        prompt = [
            task_id(number, 0)
            for number, wish in enumerate(bounds.wishes)
            if wish.priority == priority and not wish.later
        ]
        yield [task for task in world.promises.accepted if task in prompt]


def _recoveries(protocol: Protocol, bounds: Bounds, world: World) -> Iterator[tuple[str, float | None]]:
    """Yield each held task with 0.0 if maintenance makes it claimable after its consumer's death, else None (I4).

    One lease and one sweep must suffice. A live consumer may die now, so it is checked too, unless it is registered.
    """
    for number, client in enumerate(world.clients):
        name, after = name_of(number), world.server
        held = after.holding(name)
        if not held or (client.lives and name in after.leases):
            continue
        after, left = model.expire(after, name), len(held)
        while left and name in after.leases:
            after, (moved, left) = protocol.recover(after, name, bounds.batch)
            if not moved:
                break
        claimable = {entry.id for entry in (*after.waiting, *(letter.entry for letter in after.dead))}
        yield from ((entry.id, 0.0 if entry.id in claimable else None) for _, entry in held)


def _tokens(world: World) -> Iterator[str]:
    """Check ownership: a number names one delivery forever, and two consumers never hold a task under one attempt."""
    tokens: dict[tuple[str, int], str] = {}
    for number, client in enumerate(world.clients):
        name = name_of(number)
        if len({number for number, _ in client.hand}) < len(client.hand):
            yield f"A delivery is in the hands of {name} twice."
        held = dict(world.server.holding(name))
        for number, entry in client.hand:
            if held.get(number, entry) != entry:
                yield f"Delivery {number} of {name} was task {entry.id}, and now is another."
            other = tokens.setdefault((entry.id, entry.attempt), name)
            if other != name and not world.restarted:
                yield f"Attempt {entry.attempt} of task {entry.id} is in the hands of {other} and of {name}."
