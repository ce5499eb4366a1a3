"""I1 to I8 in one state of the model's world, by the predicates that everything else is judged by."""

from collections.abc import Iterator
from typing import Any

from zeroloss.invariants import INVARIANTS

from support.model.world import Bounds, Process, Protocol, World, name_of, task_id


def violations(protocol: Protocol, bounds: Bounds, world: World) -> list[str]:
    server, promises = world.server, world.promises
    places: dict[str, Any] = {
        "pending": server.pending,
        "delayed": (*server.delayed, *server.due),
        "dead_letter": server.dead,
        **{f"processing:{name}": held for name, held in server.held.items()},
    }
    ids = {place: [entry.id for entry in entries] for place, entries in places.items()}
    dead = {entry.id: entry.error for entry in server.dead}
    in_hand = [entry for client in world.clients for entry in client.hand]
    waiting = {task for place, there in ids.items() if place != "dead_letter" for task in there}
    waiting.update(entry.id for entry in in_hand)
    wished = {
        task_id(number, attempt): payload
        for number, ((payload, _), (attempts, _)) in enumerate(zip(bounds.wishes, world.asked, strict=True))
        for attempt in range(attempts)
    }
    everything = [(entry.id, entry.payload) for entries in (*places.values(), in_hand) for entry in entries]
    arguments: list[tuple[str, Any]] = [
        ("I1", (promises.accepted, server.finished, ids)),
        ("I2", (promises.accepted, world.completed, dead, waiting)),
        ("I6", (wished, everything)),
    ]
    if any(client.process is not Process.LIVES for client in world.clients):
        arguments.append(("I4", (dict(_recoveries(protocol, world)), 0.0)))
    if promises.raised:
        arguments.append(("I5", (dict(promises.raised), bounds.max_retries + 1, dead)))
    if promises.vanished:
        arguments.append(("I5", (dict(promises.vanished), bounds.max_recoveries + 1, dead)))
    if world.executed:
        arguments.append(("I7", (promises.accepted, world.executed)))
    if promises.answers:
        arguments.append(("I8", (promises.answers,)))
    found = [f"{law}: {text}" for law, given in arguments for text in INVARIANTS[law].check(*given)]
    return found + [f"I3: {text}" for text in _lease_and_token(world)]


def _recoveries(protocol: Protocol, world: World) -> Iterator[tuple[str, float | None]]:
    """For each task that a dead consumer holds: whether maintenance alone, without traffic, makes it claimable (I4).

    One lease and one sweep; and the slow sweep before them only where the consumer's entry may be gone for a reason.
    """
    for number, client in enumerate(world.clients):
        name = name_of(number)
        held = world.server.holding(name)
        if client.process is Process.LIVES or not held:
            continue
        after = protocol.adopt(world.server)[0] if client.long_gone else world.server
        after, _ = protocol.recover(protocol.expire(after, name), name)
        claimable = {entry.id for entry in (*after.pending, *after.dead)}
        yield from ((entry.id, 0.0 if entry.id in claimable else None) for entry in held)


def _lease_and_token(world: World) -> Iterator[str]:
    """What ownership rests on: a lease keeps what was claimed under it, and no two hold a task under one token."""
    tokens: dict[tuple[str, int], str] = {}
    for number, client in enumerate(world.clients):
        name = name_of(number)
        if world.server.lives(name) and not client.unsure:
            held = world.server.holding(name)
            for entry in client.hand:
                if entry not in held:
                    yield f"Task {entry.id} was taken from {name}, whose lease lives."
        for entry in client.hand:
            other = tokens.setdefault((entry.id, entry.attempt), name)
            if other != name and not world.restarted:
                yield f"Attempt {entry.attempt} of task {entry.id} is in the hands of {other} and of {name}."
