"""The monitor: a page, JSON and Prometheus. It imports the queue, and of the HTTP part what both serve with."""
