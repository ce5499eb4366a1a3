"""Faults of the server: its end, its disk, its memory, its clock, its scripts."""
