"""The server's URL and how it may be shown."""

import re
from urllib.parse import urlsplit


def shown_url(url: str) -> str:
    """The URL without what may be a password, wherever it stands: before the host, among the options, unquoted."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return "..."
    if parts.scheme == "unix":
        return f"unix://{parts.path.rpartition('@')[2]}"
    place = parts.netloc.rpartition("@")[2] + parts.path
    # A password with a slash or a question mark in it that was not quoted is taken apart in the wrong places.
    if parts.scheme and re.fullmatch(r"(\[[\da-fA-F:.]+\]|[^:/@]*)(:\d+)?(/\d*)?", place) and "@" not in parts.fragment:
        return f"{parts.scheme}://{place}"
    return f"{parts.scheme}://..." if parts.scheme else "..."
