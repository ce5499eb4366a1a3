"""Tokens that the producer and the monitor require, allowed host names, and headers for browsers."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from support.processes.over_http import (
    Served,
    app_of,
    asgi_app_of,
    assert_problem,
    assert_problem_document,
    exchange,
    post,
    request_of,
    served,
)
from support.queue_fixtures import Queue
from zeroloss.reference.http.hosts import own_hosts
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.http.tokens import monitor_token, producer_token, refuse_without_token
from zeroloss.reference.monitor import app as monitor
from zeroloss.reference.queue.config import Config, load_config
from zeroloss.reference.queue.errors import ConfigError

TOKEN = "s3cret-token"
BOTH_APPS = pytest.mark.parametrize("make", [app_of, asgi_app_of], ids=["wsgi", "asgi"])


def monitor_of(queue: Queue, **settings: Any) -> falcon.testing.TestClient:
    config = queue.configured(**settings).config
    return falcon.testing.TestClient(monitor.create_app(connect_probe(config), config))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@BOTH_APPS
def test_a_producer_with_a_token_takes_tasks_from_those_who_have_it_only(queue: Queue, make: Any) -> None:
    http = make(queue, token=TOKEN)
    wrong = ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Token {TOKEN}", TOKEN, "Basic !", basic(TOKEN, ""), "Basic"]
    for header in wrong:
        answer = post(http, "/task", '{"payload": 1}', **({"Authorization": header} if header else {}))
        assert_problem(answer, 401, "Authorization: Bearer", kind="unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert queue.everything() == {}
    for header in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic("anybody", TOKEN)):
        assert post(http, "/task", '{"payload": 1}', Authorization=header).status_code == 202


@BOTH_APPS
def test_probes_need_no_token_and_everything_else_does(queue: Queue, make: Any) -> None:
    http = make(queue, token=TOKEN)
    statuses = {
        path: http.simulate_get(path).status_code
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/task", "/nowhere")
    }
    assert statuses == {
        "/healthz": 200,
        "/readyz": 200,
        "/metrics": 401,
        "/openapi.json": 401,
        "/task": 401,
        "/nowhere": 401,
    }


def test_the_monitor_has_a_token_of_its_own(queue: Queue) -> None:
    http = monitor_of(queue, token="other", monitor_token=TOKEN)
    for path in ("/", "/stats", "/metrics"):
        assert http.simulate_get(path).status_code == 401
        assert http.simulate_get(path, headers={"Authorization": "Bearer other"}).status_code == 401
        assert http.simulate_get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert http.simulate_get(path, headers={"Authorization": basic("", TOKEN)}).status_code == 200
    assert http.simulate_get("/healthz").status_code == 200


def test_the_monitor_s_page_cannot_be_framed_and_no_answer_s_type_is_guessed(queue: Queue) -> None:
    page = monitor_of(queue).simulate_get("/").headers
    for directive in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert directive in page["content-security-policy"]
    for http in (monitor_of(queue), app_of(queue), asgi_app_of(queue)):
        assert http.simulate_get("/healthz").headers["x-content-type-options"] == "nosniff"


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f" {TOKEN}\n")
    environ = {"ZEROLOSS_TOKEN_FILE": str(file), "ZEROLOSS_MONITOR_TOKEN": "m"}
    config = load_config(environ)
    assert (producer_token(config), monitor_token(config)) == (TOKEN, "m")
    assert (producer_token(Config()), monitor_token(Config())) == (None, None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token": "a", "token_file": "/dev/null"}, "token and token_file are both set; keep one"),
        ({"token_file": "/nowhere/at/all"}, "cannot be read: No such file or directory"),
        ({"token_file": "/dev/null"}, "is empty; write the token into it"),
        ({"token": "two words"}, "printable ASCII characters without spaces"),
        ({"token": "schl\xfcssel"}, "printable ASCII"),
    ],
)
def test_an_invalid_token_is_refused_in_one_sentence(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        producer_token(Config(**settings))  # type: ignore[arg-type]


def test_a_part_that_other_machines_reach_needs_a_token_or_a_word(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        refuse_without_token("producer", Config(), host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "myhost"):
        with pytest.raises(ConfigError, match="ZEROLOSS_TOKEN or ZEROLOSS_TOKEN_FILE, or allow this with --no-token"):
            refuse_without_token("producer", Config(monitor_token="m"), host)
        with pytest.raises(ConfigError, match=r"could use the monitor without a token: set ZEROLOSS_MONITOR_TOKEN"):
            refuse_without_token("monitor", Config(token="t"), host)
        refuse_without_token("producer", Config(token="t"), host)
        refuse_without_token("monitor", Config(access="anyone"), host)


@pytest.mark.parametrize("part", ["producer", "asgi", "monitor"])
def test_a_server_bound_to_every_address_does_not_begin_without_a_token(queue: Queue, part: str) -> None:
    with (
        pytest.raises(
            AssertionError, match=r"ConfigError: Any machine that reaches \S+ could use the (producer|monitor)"
        ),
        served(part, queue.config.redis_url, host="0.0.0.0"),
    ):
        pass


def test_a_producer_starts_for_other_machines_without_a_token_by_the_option_no_token(queue: Queue) -> None:
    command = [sys.executable, "-m", "zeroloss.reference", "producer", "--redis", queue.config.redis_url]
    command += ["--host", "0.0.0.0", "--port", "0", "--no-token"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("producer listening on http://0.0.0.0:")
        finally:
            process.terminate()


def status_of(part: Served, host: str, path: str = "/metrics") -> int:
    return exchange(part.port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0]


PARTS = pytest.mark.parametrize(
    ("part", "name", "settings"),
    [
        ("producer", "producer", {}),
        ("asgi", "producer", {}),
        ("asgi", "producer", {"processes": 2}),
        ("monitor", "monitor", {}),
    ],
    ids=["waitress", "asgi", "asgi-of-two", "monitor"],
)


@PARTS
def test_a_server_on_this_machine_answers_to_its_own_names_only(
    queue: Queue, part: str, name: str, settings: dict[str, Any]
) -> None:
    """Otherwise a web page whose host name resolves to 127.0.0.1 (DNS rebinding) could use the queue."""
    names = {f"{name}_hosts": "queue.example, Other"}
    with served(part, queue.config.redis_url, **names, **settings) as server:
        own = ["localhost", "LOCALHOST.:1", "127.0.0.1", "[::1]:8082", "[::1]", f"127.0.0.1:{server.port}"]
        for host in (*own, "queue.example:443", "other"):
            assert status_of(server, host) == 200, host
        for host in ("evil.example", "evil.example:8082", "localhost.evil.example", "127.0.0.3", "", "[::2]", "::1"):
            assert status_of(server, host) == 403, host
            assert status_of(server, host, "/healthz") == 200
        for path, body in (("/letters/purge", b'{"all": true}'), ("/task", b'{"payload": 1}')):
            request = request_of(path, body).replace(b"Host: localhost", b"Host: evil.example")
            status, _, answer = exchange(server.port, request)
            words = f"The host name 'evil.example' is not allowed: open this {name} as localhost", "--allow-hosts"
            assert_problem_document(json.loads(answer), status, *words, f"ZEROLOSS_{name.upper()}_HOSTS")
            assert status == 403
    assert queue.pending() == []


@PARTS
def test_a_server_with_a_token_asks_for_no_name(queue: Queue, part: str, name: str, settings: dict[str, Any]) -> None:
    token = {"monitor_token" if name == "monitor" else "token": TOKEN}
    with served(part, queue.config.redis_url, **token, **settings) as server:
        assert (status_of(server, "queue.example"), status_of(server, "queue.example", "/healthz")) == (401, 200)


def test_the_names_of_a_server_are_those_of_this_machine_and_any_where_others_reach_it() -> None:
    config = Config(producer_hosts=" p.example,", monitor_hosts="m.example")
    own = ["localhost", "127.0.0.1", "[::1]"]
    assert own_hosts("producer", config, "127.0.0.2") == [*own, "127.0.0.2", "p.example"]
    assert own_hosts("monitor", config, "::1") == [*own, "m.example"]
    for part in ("producer", "monitor"):
        assert own_hosts(part, config, "0.0.0.0") is None
        assert own_hosts(part, Config(token=TOKEN, monitor_token=TOKEN), "127.0.0.1") is None


def test_a_token_is_not_shown_by_the_configuration() -> None:
    assert TOKEN not in repr(Config(token=TOKEN, monitor_token=TOKEN))
    assert "token" in json.dumps(repr(Config(token_file="/run/token")))
