"""The servers of the HTTP parts: what both have in common, waitress, and uvicorn."""
