"""A wall clock that can be set wrong; the folder itself is put on the path."""
