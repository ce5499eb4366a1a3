"""Finds the ids of planned tasks in bytes, also inside base64 and zlib."""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator

DEPTH_MAX = 4
INFLATED_BYTES_MAX = 16_777_216

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_ID = re.compile(rb"zl-[0-9a-f]+-[0-9]{7,}")


def ids_in(value: bytes, depth: int = DEPTH_MAX) -> set[bytes]:
    """Return the task ids in some bytes, unwrapped up to `depth` times."""
    ids = set(_ID.findall(value))
    if depth == 0:
        return ids
    for inner in _unwrapped(value):
        ids |= ids_in(inner, depth - 1)
    return ids


def _unwrapped(value: bytes) -> Iterator[bytes]:
    if value[:1] == b"\x78":  # the first byte of zlib data of any level
        inflater = zlib.decompressobj()
        try:
            yield inflater.decompress(value, INFLATED_BYTES_MAX)
        except zlib.error:
            pass
    for text in _BASE64.findall(value):
        bare = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        try:
            yield base64.b64decode(bare + b"=" * (-len(bare) % 4))
        except binascii.Error:
            continue
