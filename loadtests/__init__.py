"""Load on the queue, and benchmarks of it."""
