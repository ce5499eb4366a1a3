"""The server's URL: shown without its password, and refused with an option that would override `connect`."""

import pytest
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.reference.queue.servers.urls import shown_url

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


@pytest.mark.parametrize(
    "url", ["redis://:secret/secret@host:1/0", "http://host/0?password=secret", "x://h?password=a@secret"]
)
def test_an_invalid_url_is_refused_without_its_password_wherever_that_stands(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a Redis URL") as caught:
        connect(Config(redis_url=url))
    assert "secret" not in str(caught.value)


REFUSED = {
    "decode_responses": "true",
    "encoding": "latin-1",
    "health_check_interval": "1",
    "legacy_responses": "false",
    "max_connections": "1",
    "path": "/run/redis.sock",
    "protocol": "3",
    "retry_on_error": "TimeoutError",
    "retry_on_timeout": "true",
    "socket_connect_timeout": "0.1",
    "socket_keepalive": "false",
    "socket_timeout": "0.1",
    "ssl_no_such_option": "1",
    "timeout": "1",
    "typo": "",
}


@pytest.mark.parametrize("option", REFUSED)
@pytest.mark.parametrize("begin", ["redis://h/0?", "rediss://h/0?ssl_cert_reqs=none&", "unix:///run/redis.sock?db=1&"])
def test_an_option_that_would_undo_what_the_queue_needs_is_refused_by_its_name(begin: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"The option {option!r} of redis_url ") as caught:
        connect(Config(redis_url=f"{begin}{option}={REFUSED[option]}"))
    assert str(caught.value).endswith(".")


def test_an_option_that_may_be_a_part_of_a_password_is_refused_without_it() -> None:
    with pytest.raises(ConfigError, match="An option of redis_url ") as caught:
        connect(Config(redis_url="redis://me?sec-ret@host/0"))
    assert "ret" not in str(caught.value).replace("refused", "")


def test_an_option_of_tls_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match="The option 'ssl_ca_certs' of redis_url "):
        connect(Config(redis_url="redis://h/0?ssl_ca_certs=/ca.pem"))


@pytest.mark.parametrize(
    ("url", "option", "value"),
    [
        ("redis://h/0?username=me&password=x", "username", "me"),
        ("redis://h?db=3", "db", 3),
        ("redis://h/0?client_name=worker", "client_name", "worker"),
        ("unix:///run/redis.sock?db=3", "path", "/run/redis.sock"),
        ("unix://me:x@/run/redis.sock", "username", "me"),
        ("rediss://h/0?ssl_check_hostname=false&ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k", "keyfile", "/k"),
    ],
)
def test_the_options_for_credentials_tls_and_sockets_are_taken_from_the_url(
    url: str, option: str, value: object
) -> None:
    connection = connect(Config(redis_url=url)).connection_pool.make_connection()
    assert getattr(connection, option) == value
