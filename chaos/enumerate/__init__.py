"""Enumerate: crashes a worker at each of its commands, one case after the other. May import run and below."""
