"""A small queue on Redis, as a user may have it."""
