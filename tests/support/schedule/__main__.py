"""`PYTHONPATH=.:tests python -m support.schedule [rate | mutants | replay SCENARIO CHOICES [MUTANT]]`; alone: `rate`.

rate     how many schedules of at least 50 steps a minute, drawn from fixed seeds
mutants  for each mutant of the protocol: the law that is seen to be broken, and how soon
replay   one schedule, as a failed test's last line has it
"""

import argparse
import logging
import random
import tempfile
import time
from pathlib import Path

import pytest
from zeroloss.mutants.mutant import load_mutants
from zeroloss.system.servers import open_server

from .cast import Theatre
from .mutants import SOUGHT, hunt
from .planting import plant
from .scenario import Scenario, Wish
from .search import play, story
from .stage import FAULTS

SCHEDULES = 300
STEPS = 50


def rate(theatre: Theatre) -> None:
    """Wall time is of the whole machine; the processor's is of this process, without the server's."""
    wishes = (Wish(), Wish(behaviour="raises once"), Wish())
    scenario = Scenario(wishes=wishes, producers=2, workers=2, reapers=2, faults=FAULTS)
    wall, processor, steps, counted = time.monotonic(), time.process_time(), 0, 0
    for seed in range(SCHEDULES):
        draw = random.Random(seed)
        choices = {draw.randrange(STEPS): draw.randrange(1, 12) for _ in range(draw.randrange(8))}
        played = play(theatre, scenario, choices)
        assert not played.violations, story(played, choices, scenario)
        steps += played.steps
        counted += played.steps >= STEPS
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    print(
        f"{SCHEDULES} schedules of {steps / SCHEDULES:.0f} steps on average ({counted} of at least {STEPS}): "
        f"{60 * SCHEDULES / wall:.0f} a minute, {60 * steps / wall / STEPS:.0f} times {STEPS} steps a minute; "
        f"{wall:.1f} s, of which {processor:.1f} s this process computed"
    )


def mutants(theatre: Theatre) -> None:
    print(f"{'mutant':30} {'law':4} {'lines':>5} {'schedules':>9}  what breaks it, beside an order of commands")
    for name, sought in SOUGHT.items():
        with pytest.MonkeyPatch.context() as patch:
            plant(load_mutants()[name], theatre, patch)
            found = hunt(theatre, sought)
        needed = ", ".join(sought.scenario.faults) if found.choices else "nothing"
        print(f"{name:30} {sought.law:4} {len(found.played.story):5} {found.schedules:9}  {needed}")


def replay(theatre: Theatre, scenario: str, choices: str, mutant: str | None) -> None:
    known = {"Scenario": Scenario, "Wish": Wish}
    made, chosen = eval(scenario, known), eval(choices)  # as this program itself has written them
    with pytest.MonkeyPatch.context() as patch:
        if mutant:
            plant(load_mutants()[mutant], theatre, patch)
        print(story(play(theatre, made, chosen), chosen, made))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="schedule", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("rate")
    commands.add_parser("mutants")
    again = commands.add_parser("replay")
    again.add_argument("scenario")
    again.add_argument("choices")
    again.add_argument("mutant", nargs="?")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_server("embedded", appendfsync=None, directory=Path(folder)) as server,
    ):
        theatre = Theatre(server.url)
        if asked.command == "mutants":
            mutants(theatre)
        elif asked.command == "replay":
            replay(theatre, asked.scenario, asked.choices, asked.mutant)
        else:
            rate(theatre)
        theatre.close()


if __name__ == "__main__":
    main()
