"""A small queue on Redis, as somebody may have it."""
