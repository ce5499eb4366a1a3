"""What a queue holds and which workers live, for `Queue.stats`, the monitor and metrics."""
