"""For `locust -f loadtests/locustfile.py`, or a profile: `locust --config loadtests/profiles/steady.conf`.

The users are in `users.py`, what can be set in `options.py`, what becomes of an accepted task in `session.py`.
"""

import loadtests.options
import loadtests.session  # noqa: F401 - importing them is what registers them with Locust
from loadtests.users import Batches, CarefulClients, SingleTasks, WrongClients

__all__ = ["Batches", "CarefulClients", "SingleTasks", "WrongClients"]
