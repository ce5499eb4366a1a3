"""For `locust -f loadtests/locustfile.py`, or a profile: `locust --config loadtests/profiles/steady.conf`.

The users are in `users.py`, what can be set in `options.py`, what becomes of an accepted task in `session.py`.
"""

import zeroloss.loadtests.options
import zeroloss.loadtests.session  # noqa: F401 - importing them is what registers them with Locust
from zeroloss.loadtests.users import (
    Batches,
    CarefulClients,
    PrioritizedTasks,
    ScheduledTasks,
    SingleTasks,
    WrongClients,
)

__all__ = ["Batches", "CarefulClients", "PrioritizedTasks", "ScheduledTasks", "SingleTasks", "WrongClients"]
