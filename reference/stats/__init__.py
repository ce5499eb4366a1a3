"""The state of a queue and its live workers, for `Queue.stats`, the monitor and metrics."""
