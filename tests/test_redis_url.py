"""The server's URL: never shown with its password."""

import pytest

from reference.redis_url import shown_url

HIDDEN = [
    ("redis://:secret@host:1/0", "redis://host:1/0"),
    ("redis://me:secret@host:1", "redis://host:1"),
    ("rediss://me:sec@secret@host/2", "rediss://host/2"),
    ("redis://host:1/0?password=secret", "redis://host:1/0"),
    ("redis://host/0?db=1&password=a@secret", "redis://host/0"),
    ("redis://:secret@[::1]:1/0", "redis://[::1]:1/0"),
    ("redis://:secret/secret@host:1/0", "redis://..."),
    ("redis://:1/secret@host:1/0", "redis://..."),
    ("redis://:secret?secret@host:1/0", "redis://..."),
    ("redis://:secret#secret@host:1/0", "redis://..."),
    ("redis://:1#secret@host:1/0", "redis://..."),
    ("unix://me:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ("unix://:secret/secret@/run/redis.sock", "unix:///run/redis.sock"),
    ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ("secret", "..."),
    ("redis://:secret@[::1", "..."),
]


@pytest.mark.parametrize(("url", "shown"), HIDDEN)
def test_a_url_is_shown_without_its_password_wherever_that_stands(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert "secret" not in shown
