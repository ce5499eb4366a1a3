"""Faults of handlers: tasks that misbehave."""
