"""SIGTERM and SIGINT."""

import signal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
