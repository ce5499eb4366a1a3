"""Batches only."""

import zeroloss.loadtests.options
import zeroloss.loadtests.session  # noqa: F401 - the import registers them with Locust
from zeroloss.loadtests.users import Batches

__all__ = ["Batches"]
