"""Faults of the server (kills, disk, memory, access list, scripts), and of the clock."""
