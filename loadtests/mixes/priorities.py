"""Tasks of all priorities, one a request."""

import zeroloss.loadtests.options
import zeroloss.loadtests.session  # noqa: F401 - the import registers them with Locust
from zeroloss.loadtests.users import PrioritizedTasks

__all__ = ["PrioritizedTasks"]
