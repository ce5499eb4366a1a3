"""Processes, network links and whole systems that tests start."""
