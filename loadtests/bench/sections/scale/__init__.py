"""What a large fleet costs one server, and what several primaries give."""
