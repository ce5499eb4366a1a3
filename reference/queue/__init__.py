"""The queue: its operations, scripts and settings. It imports nothing else of this unit."""
