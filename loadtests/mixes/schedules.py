"""Scheduled tasks, and tasks that are due at once."""

import zeroloss.loadtests.options
import zeroloss.loadtests.session  # noqa: F401 - the import registers them with Locust
from zeroloss.loadtests.users import ScheduledTasks, SingleTasks

__all__ = ["ScheduledTasks", "SingleTasks"]
