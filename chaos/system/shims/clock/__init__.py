"""A wall clock that the harness can set wrong. The folder itself is added to the path."""
