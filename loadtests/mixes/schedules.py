"""Tasks that are due later, beside some that are due at once."""

import zeroloss.loadtests.options
import zeroloss.loadtests.session  # noqa: F401 - importing them is what registers them with Locust
from zeroloss.loadtests.users import ScheduledTasks, SingleTasks

__all__ = ["ScheduledTasks", "SingleTasks"]
