"""A RESP proxy: it knows the worker behind each connection, counts commands, and injects faults at named ones."""

from .listener import Listener
from .points import ANY_ROLE, Phase, Point, read_point
from .proxy import Proxy
from .strikes import Link, Strike, StrikeKind
from .trace import Tracer
from .way import Tally

__all__ = ["ANY_ROLE", "Link", "Listener", "Phase", "Point", "Proxy", "Strike", "StrikeKind", "Tally", "Tracer"]
__all__ += ["read_point"]
