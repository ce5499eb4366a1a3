"""`redis+sentinel://`: addresses of the Sentinels, name of the primary, and logins of both."""

import pytest
from zeroloss.reference.failover.urls import SentinelUrl, read_sentinel_url
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.reference.queue.servers.urls import shown_url

READ = {
    "redis+sentinel://a:1,b:2/main/3": SentinelUrl(
        (("a", 1), ("b", 2)), "main", "redis://primary/3", "redis://sentinel"
    ),
    "redis+sentinel://a/main": SentinelUrl((("a", 26379),), "main", "redis://primary/0", "redis://sentinel"),
    "redis+sentinel://[::1]:1,[fe80::2]/m": SentinelUrl(
        (("::1", 1), ("fe80::2", 26379)), "m", "redis://primary/0", "redis://sentinel"
    ),
    "redis+sentinel://me:a%40b@h:1/m/0": SentinelUrl(
        (("h", 1),), "m", "redis://me:a%40b@primary/0", "redis://sentinel"
    ),
    "redis+sentinel://h/m?client_name=w&sentinel_username=u&sentinel_password=a%26b": SentinelUrl(
        (("h", 26379),), "m", "redis://primary/0?client_name=w", "redis://sentinel?username=u&password=a%26b"
    ),
}


@pytest.mark.parametrize("url", READ)
def test_the_url_names_the_sentinels_the_group_the_database_and_both_logins(url: str) -> None:
    assert read_sentinel_url(url) == READ[url]


def test_tls_reaches_sentinels_and_servers_with_the_same_options() -> None:
    found = read_sentinel_url("rediss+sentinel://:p@h/m/0?ssl_ca_certs=/ca.pem&sentinel_password=q")
    assert found.server == "rediss://:p@primary/0?ssl_ca_certs=%2Fca.pem"
    assert found.sentinel == "rediss://sentinel?ssl_ca_certs=%2Fca.pem&password=q"


def test_sentinels_without_tls_can_name_servers_with_tls() -> None:
    found = read_sentinel_url("rediss+sentinel://h/m?ssl_ca_certs=/ca.pem&sentinel_tls=false")
    assert found.server == "rediss://primary/0?ssl_ca_certs=%2Fca.pem"
    assert found.sentinel == "redis://sentinel"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://h:1", "name the primary after the hosts"),
        ("redis+sentinel://h:1/", "name the primary after the hosts"),
        ("redis+sentinel:///main/0", "name at least one Sentinel"),
        ("redis+sentinel://h:1,,g/main", "name at least one Sentinel"),
        ("redis+sentinel://h:port/main", "a port is a number from 1 to 65535"),
        ("redis+sentinel://h:0/main", "a port is a number from 1 to 65535"),
        ("redis+sentinel://h:65536/main", "a port is a number from 1 to 65535"),
        ("redis+sentinel://h/main/x", "the database is a number"),
        ("redis+sentinel://h/main/0/1", "the database is a number"),
        ("redis+sentinel://:secret/secret@h/main", "percent codes"),
        ("redis+sentinel://h/main?sentinel_tls=false", "sentinel_tls"),
        ("rediss+sentinel://h/main?sentinel_tls=perhaps", "sentinel_tls"),
        ("redis+sentinel://h/main?socket_timeout=1", "The option 'socket_timeout' of redis_url "),
        ("redis+sentinel://h/main?ssl_ca_certs=/ca", "The option 'ssl_ca_certs' of redis_url "),
        ("redis://h/0?sentinel_password=secret", "The option 'sentinel_password' of redis_url "),
    ],
)
def test_a_sentinel_url_that_is_invalid_is_refused_by_one_sentence_without_a_password(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        connect(Config(redis_url=url))
    assert "secret" not in str(caught.value).replace("sentinel_password", "")
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://me:secret@a:1,b:2/main/3", "redis+sentinel://a:1,b:2/main/3"),
        ("rediss+sentinel://a,[::1]:1/main?sentinel_password=secret", "rediss+sentinel://a,[::1]:1/main"),
        ("redis+sentinel://:secret/secret@a/main", "redis+sentinel://..."),
        ("redis+sentinel://:1/secret@a/main", "redis+sentinel://..."),
        ("redis+sentinel://:secret?secret@a/main", "redis+sentinel://..."),
        ("redis+sentinel://:secret#secret@a/main", "redis+sentinel://..."),
    ],
)
def test_a_sentinel_url_is_shown_without_its_passwords(url: str, shown: str) -> None:
    assert shown_url(url) == shown
