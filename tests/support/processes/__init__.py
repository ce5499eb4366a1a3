"""Processes, links and whole systems that tests run."""
