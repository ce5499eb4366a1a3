"""Payloads that a reader or writer of JSON is likely to change."""

from support.waiting import plain_id

AWKWARD_PAYLOADS = [
    "1.10",
    "1E5",
    "-0.0",
    "12345678901234567890123",
    "1e400",
    '{"twice":1,"twice":2}',
    '"\\u0000"',
    '"\\ud83e\\uDDE8"',
    '"\\/ \\u00e9 é 🧨"',
    "[]",
    "{}",
    "null",
    ' { "spaced" : [ 1 , 2 ] } '.strip(),
    '"' + "x" * 1_000_000 + '"',
]
AWKWARD_IDS = [plain_id(text) if len(text) < 40 else "1 MB" for text in AWKWARD_PAYLOADS]
