"""The producer's ASGI app for any ASGI server, with a deadline of 1 s for request bodies."""

from zeroloss.reference.http.producer_asgi import from_environment
from zeroloss.reference.http.servers import common

common.BODY_TIMEOUT_S = 1.0

__all__ = ["from_environment"]
