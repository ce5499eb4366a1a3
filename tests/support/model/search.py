"""Search every state that the model can reach within some bounds, and check I1 to I8 in each.

    PYTHONPATH=.:tests python -m support.model.search             # the bounds of the tests
    PYTHONPATH=.:tests python -m support.model.search --nightly   # and the larger bounds

The search is breadth first, so the story of a violation is as short as possible. Consumers are interchangeable: states
that differ only by a permutation of consumers count as one. The last check is liveness: from every state, some steps
without a further fault lead to a state in which every accepted task is finished or in dead_letter.
"""

import argparse
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.model.bounds import NIGHTLY, TESTED
from support.model.laws import violations
from support.model.model import Delivery, State
from support.model.steps import steps
from support.model.world import Bounds, Client, Protocol, Step, World, begin, name_of

HONEST = Protocol()


@dataclass(frozen=True, kw_only=True)
class Found:
    """Result of a search. `violations` belong to the last state of `story`; if empty, every law held in every state."""

    states: int
    transitions: int
    depth: int
    seconds: float  # CPU time of one core
    violations: tuple[str, ...] = ()
    story: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()  # kinds of steps, as sentence templates

    def numbered(self) -> str:
        lines = [f"{number:2d}. {step}" for number, step in enumerate(self.story, 1)]
        return "\n".join([*lines, *(f"    {text}" for text in self.violations)])


def search(bounds: Bounds, protocol: Protocol = HONEST, law: str = "") -> Found:
    """Return the first violation of `law` (I1 to I8, or Liveness; by default of any), or the size of a clean search."""
    return _Search(bounds, protocol, law).run()


class _Search:
    def __init__(self, bounds: Bounds, protocol: Protocol, law: str) -> None:
        self.bounds, self.protocol, self.law = bounds, protocol, law
        self.numbers: dict[Any, int] = {}
        self.came: list[tuple[int, Step | None]] = []  # for each state: its predecessor and the step from there
        self.fairly_before: list[list[int]] = []  # for each state: predecessors by a step without a fault
        self.ended: list[int] = []
        self.kinds: set[str] = set()
        self.transitions = self.depth = 0
        self.began_s = time.process_time()

    def run(self) -> Found:
        frontier = deque([(self._number(begin(self.bounds), -1, None), begin(self.bounds), 0)])
        while frontier:
            here, world, depth = frontier.popleft()
            self.depth = depth
            for step in steps(self.protocol, self.bounds, world):
                self.transitions += 1
                self.kinds.add(step.says)
                known = len(self.came)
                number = self._number(step.world, here, step)
                broken = list(step.violations)
                if step.fair:
                    self.fairly_before[number].append(here)
                if number == known:
                    frontier.append((number, step.world, depth + 1))
                    broken += violations(self.protocol, self.bounds, step.world)
                if broken and (sought := [text for text in broken if text.startswith(self.law)]):
                    return self._found(tuple(sought), here, step)
        return self._liveness()

    def _number(self, world: World, before: int, step: Step | None) -> int:
        """Return the state's number; a new state gets the next one."""
        number = self.numbers.setdefault(canonical(world), len(self.came))
        if number == len(self.came):
            self.came.append((before, step and step._replace(world=None)))  # type: ignore[arg-type]
            self.fairly_before.append([])
            if all_is_done(world):
                self.ended.append(number)
        return number

    def _liveness(self) -> Found:
        """Walk backwards from the states in which all work is done. The first state not reached is stuck."""
        ends = [False] * len(self.came)
        todo = list(self.ended)
        while todo:
            number = todo.pop()
            if not ends[number]:
                ends[number] = True
                todo += self.fairly_before[number]
        if all(ends):
            return self._found((), -1, None)
        before, step = self.came[ends.index(False)]
        assert step is not None, "nothing was accepted yet"
        return self._found(("Liveness: no fair continuation finishes or dead-letters every task.",), before, step)

    def _found(self, broken: tuple[str, ...], here: int, step: Step | None) -> Found:
        story = []
        while step is not None:
            story.append(str(step))
            here, step = self.came[here]
        return Found(
            states=len(self.came),
            transitions=self.transitions,
            depth=self.depth,
            seconds=time.process_time() - self.began_s,
            violations=broken,
            story=tuple(reversed(story)),
            kinds=frozenset(self.kinds),
        )


def canonical(world: World) -> Any:
    """Return a key that is equal for worlds that differ only in the order of consumers, counters or error texts."""
    lasting = world.lasting
    slots = [
        _slot(client, name, (world.server, lasting[0]) if lasting else (world.server,))
        for name, client in zip(map(name_of, range(len(world.clients))), world.clients, strict=True)
    ]
    slots.sort(key=hash)
    return (
        tuple(slots),
        _shared(world.server),
        lasting and (_shared(lasting[0]), lasting[1]),
        world._replace(server=None, clients=None, lasting=None),  # type: ignore[arg-type]
    )


def _slot(client: Client, name: str, servers: tuple[State, ...]) -> Any:
    """Return one consumer and its state on the servers, without the absolute values of numbers.

    Only these count: which numbers are equal, which requests are refused, whether the next number exceeds all others.
    """
    known = [(server.leases.get(name), server.numbers.get(name, 0), server.holding(name)) for server in servers]
    under_way = [request.first for request in client.late]
    used = {number for number, _ in client.hand}.union(*(request.numbers for request in client.late))
    if client.awaited:
        under_way.append(client.awaited)
        used.add(client.awaited)
    for _, _, held in known:
        used.update(number for number, _ in held)
    rank = {number: place for place, number in enumerate(sorted(used), 1)}
    above_all = client.given >= max([*used, *(mark for _, mark, _ in known)], default=0)
    ranked = client._replace(
        hand=_ranked(client.hand, rank),
        done=frozenset([rank[number] for number in client.done]),
        given=0 if above_all else client.given,
        awaited=rank.get(client.awaited, 0),
        reply=client.reply and Delivery(rank[client.reply.number], client.reply.entry),
        late=tuple([(rank.get(r.first), r.limit, tuple([rank[n] for n in r.done])) for r in client.late]),  # type: ignore[misc]
    )
    refused = [[first <= mark for first in under_way] for _, mark, _ in known]
    return ranked, *(
        (lease, tuple(no), _ranked(held, rank)) for (lease, _, held), no in zip(known, refused, strict=True)
    )


def _ranked(deliveries: tuple[Delivery, ...], rank: dict[int, int]) -> tuple[Delivery, ...]:
    return tuple([Delivery(rank[number], entry) for number, entry in deliveries])


def _shared(server: State) -> Any:
    dead = frozenset((letter.entry, bool(letter.error)) for letter in server.dead)
    keys = frozenset(server.keys.items())
    return (server.pending, server.bell, server.delayed, server.due, dead, server.finished, keys)


def all_is_done(world: World) -> bool:
    server = world.server
    return not (server.waiting or server.delayed or server.due or any(server.held.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Search every state of the model, and print how many there were.")
    parser.add_argument("--nightly", action="store_true", help="the larger bounds too")
    options = parser.parse_args(arguments)
    print(HEADER)
    broken = False
    for name, bounds in {**TESTED, **(NIGHTLY if options.nightly else {})}.items():
        found = search(bounds)
        print(row(name, bounds, found), flush=True)
        if found.violations:
            print(found.numbered())
            broken = True
    return 1 if broken else 0


HEADER = f"{'bounds':46}{'consumers':>10}{'tasks':>7}{'faults':>8}{'states':>11}{'transitions':>13}{'depth':>7}{'s':>8}"


def row(name: str, bounds: Bounds, found: Found) -> str:
    numbers = f"{bounds.consumers:10}{len(bounds.wishes):7}{bounds.faults:8}{found.states:11,}{found.transitions:13,}"
    return f"{name:46}{numbers}{found.depth:7}{found.seconds:8.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
