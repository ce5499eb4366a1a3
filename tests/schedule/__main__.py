"""`PYTHONPATH=.:tests python -m schedule`: how many schedules of at least 50 steps a minute, drawn from fixed seeds."""

import logging
import random
import tempfile
import time
from pathlib import Path

from chaos.servers import open_server

from .scenario import Scenario, Wish
from .search import play, story
from .stage import FAULTS, Theatre

SCHEDULES = 300
STEPS = 50


def main() -> None:
    """Wall time is of the whole machine; the processor's is of this process, without the server's."""
    logging.disable(logging.CRITICAL)
    scenario = Scenario(wishes=(Wish(), Wish(behaviour="raises once"), Wish()), workers=2, faults=FAULTS)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_server("embedded", appendfsync=None, directory=Path(folder)) as server,
    ):
        theatre = Theatre(server.url)
        wall, processor, steps, counted = time.monotonic(), time.process_time(), 0, 0
        for seed in range(SCHEDULES):
            draw = random.Random(seed)
            choices = {draw.randrange(STEPS): draw.randrange(1, 12) for _ in range(draw.randrange(8))}
            played = play(theatre, scenario, choices)
            assert not played.violations, story(played, choices, scenario)
            steps += played.steps
            counted += played.steps >= STEPS
        wall, processor = time.monotonic() - wall, time.process_time() - processor
        theatre.close()
    print(
        f"{SCHEDULES} schedules of {steps / SCHEDULES:.0f} steps on average ({counted} of at least {STEPS}): "
        f"{60 * SCHEDULES / wall:.0f} a minute, {60 * steps / wall / STEPS:.0f} times {STEPS} steps a minute; "
        f"{wall:.1f} s, of which {processor:.1f} s this process computed"
    )


if __name__ == "__main__":
    main()
