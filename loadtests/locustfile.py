"""For `locust -f loadtests/locustfile.py`, or a profile: `locust --config loadtests/profiles/steady.conf`.

The users are in `users.py`, the options in `options.py`; `session.py` follows accepted tasks.
"""

import zeroloss.loadtests.options
import zeroloss.loadtests.session  # noqa: F401 - the import registers them with Locust
from zeroloss.loadtests.users import (
    Batches,
    CarefulClients,
    PrioritizedTasks,
    ScheduledTasks,
    SingleTasks,
    WrongClients,
)

__all__ = ["Batches", "CarefulClients", "PrioritizedTasks", "ScheduledTasks", "SingleTasks", "WrongClients"]
