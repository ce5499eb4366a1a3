"""The textbook's unreliable queue, LPUSH and BRPOP: a claimed task is only in its worker's memory."""

import sys
from typing import ClassVar

from .pushed_json import PushedJson


class Brpop(PushedJson):
    """Loses what its workers hold when they die (I2)."""

    name: ClassVar[str] = "brpop"
    worker = (sys.executable, "-m", "zeroloss.targets.brpop_worker")
