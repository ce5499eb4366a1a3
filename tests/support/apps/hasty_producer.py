"""The producer's ASGI app, for a server of one's own, with a deadline of a second for bodies."""

from zeroloss.reference.http.producer_asgi import from_environment
from zeroloss.reference.http.servers import common

common.BODY_TIMEOUT_S = 1.0

__all__ = ["from_environment"]
