"""Keeps the passwords of Redis URLs out of everything that the harness writes.

`hide` registers each URL where it enters: on the command line, from `REDIS_URL`, as a server's. From then on `masked`
replaces its password in any text, in any of its encoded forms.
"""

import html
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK = "***"
LENGTH_MIN = 4
"""Length below which a password is masked in its URL only: replaced everywhere, it would deface words and numbers."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://.*|[^=\s]*:.+@.*", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[^][@/]*\]|[\w.-]*)(:\d*)?")
_OPTION_SHOWN = re.compile(r"db=\d*", re.ASCII)
_ERROR_MEMBER = '"error":'

_hidden: dict[str, str] = {}
"""Secret text -> its replacement."""


def hide(text: str) -> None:
    """Remember the URL, or what looks like a mistyped one, at the end of a text such as an argument."""
    found = _URL.search(text)
    if found is None or found[0] in _hidden:
        return
    url = found[0]
    _hidden[url] = without_password(url)
    _hidden.update((form, MASK) for password in _passwords(url) for form in _forms(password))


def masked(text: str) -> str:
    """Return the text without the passwords of the registered URLs and of `REDIS_URL`."""
    hide(os.environ.get("REDIS_URL", ""))
    for secret in sorted(_hidden, key=len, reverse=True):  # the longest first: it may contain others
        text = text.replace(secret, _hidden[secret])
    return text


def without_password(url: str) -> str:
    """Return the URL with `***` for its password and its options; only its scheme if it is malformed.

    A password that was not percent-encoded splits a URL in the wrong places, so that any part may belong to the
    password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK if "@" in url else url
    place, question, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    credentials, at, host = authority.rpartition("@")
    if "@" in path + query or "#" in rest or not _HOST.fullmatch(host):
        return f"{scheme}://{MASK}"
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{MASK}" if colon else MASK
    options = "&".join(_option(option) for option in query.split("&"))
    return f"{scheme}://{shown if at else ''}{at}{host}{slash}{path}{question}{options}"


def mask_files(directory: Path) -> None:
    """Mask files that processes of the target wrote below `directory`: their logs, and the errors in their events."""
    masked("")  # registers the URL of the environment
    if not _hidden:
        return
    for path in directory.rglob("*.log"):
        _rewrite(path, masked)
    for path in directory.rglob("*.jsonl"):
        _rewrite(path, _masked_errors)


def _option(option: str) -> str:
    name, equals, _ = option.partition("=")
    return option if not option or _OPTION_SHOWN.fullmatch(option) else f"{name}={MASK}" if equals else MASK


def _passwords(url: str) -> Iterator[str]:
    """Yield possible passwords: the text before the last `@`, and options."""
    rest = url.partition("://")[2]
    before_host = rest.rpartition("@")[0].partition(":")[2]
    for found in (before_host, *re.findall(r"[?&](?:sentinel_)?password=([^&#]*)", rest)):
        for password in (found, unquote(found), unquote_plus(found)):
            if len(password) >= LENGTH_MIN:
                yield password


def _forms(text: str) -> set[str]:
    """Return the forms of a text in a URL, in JSON, in HTML and in Python's `repr`."""
    return {
        text,
        *(quoted(text) for quoted in (quote, quote_plus, html.escape)),
        quote(text, safe=""),
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
    }


def _masked_errors(lines: str) -> str:
    """Mask the error of each JSON line and nothing else: a password may equal a word of the event format."""
    parted = [line.partition(_ERROR_MEMBER) for line in lines.splitlines(keepends=True)]
    return "".join(before + member + (masked(error) if member else "") for before, member, error in parted)


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    if path.is_symlink() or not path.is_file():
        return
    text = path.read_bytes().decode(errors="surrogateescape")
    changed = change(text)
    if changed != text:
        path.write_bytes(changed.encode(errors="surrogateescape"))
