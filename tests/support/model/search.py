"""Every state that the model can reach within some bounds, and I1 to I8 in each of them.

    PYTHONPATH=.:tests python -m support.model.search             # what the tests search
    PYTHONPATH=.:tests python -m support.model.search --nightly   # and what takes longer

Breadth first, so that the story of a violation is a shortest one. Consumers are interchangeable, so states that differ
only by who is who are one state. In the end, liveness: from every state some steps without a further fault lead to one
in which every accepted task is finished or in dead_letter.
"""

import argparse
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from support.model.bounds import NIGHTLY, TESTED
from support.model.laws import violations
from support.model.steps import steps
from support.model.world import Bounds, Protocol, Step, World, begin, name_of

HONEST = Protocol()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to. `violations` are those of the last state of `story`; none: every law held everywhere."""

    states: int
    transitions: int
    depth: int
    seconds: float  # of one core
    violations: tuple[str, ...] = ()
    story: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()  # of steps, as they are said

    def numbered(self) -> str:
        lines = [f"{number:2d}. {step}" for number, step in enumerate(self.story, 1)]
        return "\n".join([*lines, *(f"    {text}" for text in self.violations)])


def search(bounds: Bounds, protocol: Protocol = HONEST, law: str = "") -> Found:
    """The first violation of `law` (I1 to I8, or Liveness), or of any law; or how much was searched without one."""
    return _Search(bounds, protocol, law).run()


class _Search:
    def __init__(self, bounds: Bounds, protocol: Protocol, law: str) -> None:
        self.bounds, self.protocol, self.law = bounds, protocol, law
        self.numbers: dict[Any, int] = {}
        self.came: list[tuple[int, Step | None]] = []  # for each state: the state before it and the step from there
        self.fairly_before: list[list[int]] = []  # for each state: those from which a step without a fault leads to it
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
        """The state's number; a new one for a state that was not seen yet."""
        number = self.numbers.setdefault(canonical(world), len(self.came))
        if number == len(self.came):
            self.came.append((before, step and step._replace(world=None)))  # type: ignore[arg-type]
            self.fairly_before.append([])
            if all_is_done(world):
                self.ended.append(number)
        return number

    def _liveness(self) -> Found:
        """Backwards from the states in which all is done; the first state that is not met on the way is stuck."""
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
    """Equal for worlds that differ only in which consumer is which, in counters, or in what an error says."""
    server = world.server
    lasting = world.lasting and world.lasting[0]
    slots = [
        (
            client,
            server.leases.get(name),
            server.holding(name),
            lasting and (lasting.leases.get(name), lasting.holding(name)),
        )
        for name, client in zip(map(name_of, range(len(world.clients))), world.clients, strict=True)
    ]
    slots.sort(key=hash)
    return (
        tuple(slots),
        _shared(server),
        lasting and (_shared(lasting), world.lasting[1]),  # type: ignore[index]
        world._replace(server=None, clients=None, lasting=None),  # type: ignore[arg-type]
    )


def _shared(server: Any) -> Any:
    dead = frozenset((e.id, e.payload, e.retry_count, e.recovered_count, bool(e.error)) for e in server.dead)
    return (server.pending, server.delayed, server.due, dead, server.finished, frozenset(server.keys.items()))


def all_is_done(world: World) -> bool:
    server = world.server
    return not (server.pending or server.delayed or server.due or any(server.held.values()))


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


HEADER = f"{'bounds':34}{'consumers':>10}{'tasks':>7}{'faults':>8}{'states':>11}{'transitions':>13}{'depth':>7}{'s':>8}"


def row(name: str, bounds: Bounds, found: Found) -> str:
    numbers = f"{bounds.consumers:10}{len(bounds.wishes):7}{bounds.faults:8}{found.states:11,}{found.transitions:13,}"
    return f"{name:34}{numbers}{found.depth:7}{found.seconds:8.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
