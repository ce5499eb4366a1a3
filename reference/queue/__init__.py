"""The queue: its verbs, its scripts, its settings. It imports nothing else of this unit."""
