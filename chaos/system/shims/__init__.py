"""Shims: each is a folder that a fault adds to the Python path of the processes under test."""
