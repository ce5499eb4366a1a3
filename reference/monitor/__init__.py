"""The monitor: a page, JSON and Prometheus. It imports the queue, and the shared modules of the HTTP part."""
