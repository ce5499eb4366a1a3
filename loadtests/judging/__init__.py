"""What becomes of accepted tasks, and whether the load kept to its thresholds; nothing here knows Locust."""
