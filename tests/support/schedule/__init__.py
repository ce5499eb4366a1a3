"""The queue's own code under a scheduler that takes one Redis command at a time."""
