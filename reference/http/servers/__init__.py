"""The servers of the HTTP parts: waitress, uvicorn, and their shared code."""
