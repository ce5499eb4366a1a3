"""Load tests and benchmarks of the queue."""
