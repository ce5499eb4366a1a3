"""A common home-made queue: BRPOPLPUSH into one processing list, shared by all workers and never read again."""

import sys
from typing import ClassVar

from .pushed_json import PushedJson


class SharedList(PushedJson):
    """Strands what its workers hold when they die (I4); between LREM and RPUSH of a failed task it loses it (I1)."""

    name: ClassVar[str] = "shared-list"
    worker = (sys.executable, "-m", "zeroloss.targets.shared_list_worker")
    behaviours = frozenset({"raise-once"})
