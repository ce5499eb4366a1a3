"""The monitor: shows the queue's tasks, consumers, dead letters and troubles.

    GET  /                   a page that refreshes itself
    GET  /stats              the reading as JSON, with `troubles`; a 503 problem if the queue cannot be read
    GET  /series             the last minutes, for the charts
    GET  /tasks/{place}      a page of pending, delayed or processing tasks
    GET  /vanished           consumers that vanished lately
    GET  /letters            a page of dead letters; GET /letters/{id}: one letter with all details
    POST /letters/{verb}     requeue or purge letters by id, or all letters that pass a filter
    GET  /metrics            for Prometheus; only `zeroloss_up 0` if the queue cannot be read
    GET  /healthz            the process runs

With several shards, counts, consumers and dead letters are those of all shards; series, pending and delayed tasks are
those of one shard, which `?shard=NAMESPACE` names.

It only shows numbers that it has just read. If Redis refuses a value, for example because a key has another type, it is
null in /stats, with the reason in `unreadable`; it is missing in /metrics, and a sentence on the page.
"""

import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import falcon
import redis
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from redis.exceptions import RedisError, ResponseError

from ..http import problems
from ..http.bodies import read_body, require_media_type
from ..http.hosts import known_hosts, own_hosts
from ..http.problems import Problem, malformed, redis_unavailable
from ..http.readiness import Health, connect_probe
from ..http.servers import by_waitress
from ..http.submissions import decode_utf8
from ..http.tokens import guards, monitor_token
from ..queue.config import Config
from ..queue.connection import refuse_client_of_shards, refuse_old_server
from ..queue.dead_letters import DeadLetters
from ..queue.errors import OtherProtocol, QueueError
from ..queue.task import PRIORITIES
from ..stats.gauges import Gauges, Reading
from .letters import Letters, Wanted
from .metrics import QueueCollector
from .places import Places, Shown
from .series import MINUTES_MAX, Series
from .troubles import troubles_of, troubles_of_series
from .vanished import read_vanished

IDS_MAX = 1_000  # limit on the letters that one request names
BODY_BYTES_MAX = 65_536
START_MAX = 10**9

# The page loads nothing from elsewhere, connects to this monitor only, and no text that it shows can become a script.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


_Each = Callable[[Callable[[redis.Redis, Config], Any]], Mapping[str, Any]]


def create_app(client: redis.Redis | None, config: Config, hosts: Sequence[str] | None = None) -> falcon.App[Any, Any]:
    """Return the WSGI app. `client` needs a short timeout (`readiness.connect_probe`): a hung Redis shows at once.

    With several shards `client` is None, as each shard has its own. `hosts`: the only host names that are accepted;
    None: any.

    Raises:
        ConfigError: `client` does not fit the number of shards.
    """
    app = falcon.App(middleware=[*guards(monitor_token(config)), *known_hosts("monitor", hosts)])
    problems.install(app)
    app.add_error_handler(RedisError, _on_redis_error)
    app.add_error_handler(QueueError, _on_queue_error)
    each, gauges, dead_letters = _parts(client, config)
    clients = each(lambda client, _: client)
    letters = Letters(dead_letters)
    app.add_route("/", _File("index.html"))
    for name in sorted(path.name for path in resources.files(__package__).joinpath("static").iterdir()):
        if name.endswith((".css", ".js")):
            app.add_route(f"/static/{name}", _File(name))
    app.add_route("/stats", _Stats(gauges, clients))
    app.add_route("/series", _Series(each(Series)))
    app.add_route("/vanished", _Vanished(clients))
    app.add_route("/tasks/{place}", _Tasks(each(Places)))
    app.add_route("/letters", _Letters(letters))
    app.add_route("/letters/{name:path}", _Letter(letters))  # with shards an id has a slash
    app.add_route("/metrics", _Metrics(gauges))
    app.add_route("/healthz", Health())
    return app


def serve(config: Config, host: str, port: int) -> None:
    """Serve with waitress until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address cannot be listened on, the URL cannot be used, or the server is too old.
    """
    client = None
    if config.shards > 1:
        from ..shards.members import refuse_old_servers

        refuse_old_servers(config)
    else:
        refuse_old_server(config)
        client = connect_probe(config)
    app = create_app(client, config, own_hosts("monitor", config, host))
    by_waitress.serve("monitor", app, config, host, port, BODY_BYTES_MAX)


def _parts(client: redis.Redis | None, config: Config) -> tuple[_Each, Gauges, DeadLetters]:
    """Return a function that makes an object for each shard, by namespace; the gauges and dead letters of all."""
    refuse_client_of_shards(client, config)
    if client is not None:
        return (
            lambda make: {config.namespace: make(client, config)},
            Gauges(client, config),
            DeadLetters(client, config),
        )
    from ..shards.queue import look_at_shards

    return look_at_shards(config, connect_probe)


class _File:
    """A file of the page."""

    def __init__(self, name: str) -> None:
        self._type = f"{mimetypes.guess_type(name)[0]}; charset=utf-8"
        self._data = resources.files(__package__).joinpath("static", name).read_bytes()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = self._type
        resp.set_header("Content-Security-Policy", PAGE_POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "no-referrer")
        resp.set_header("Cache-Control", "no-cache")
        resp.data = self._data

    on_head = on_get


class _Stats:
    def __init__(self, gauges: Gauges, clients: Mapping[str, redis.Redis]) -> None:
        self._gauges, self._clients = gauges, clients

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        reading = self._gauges.read()
        shards: Mapping[str, Reading | None] = getattr(reading, "shards", {})
        answering = [client for name, client in self._clients.items() if shards.get(name, reading)]
        troubles = troubles_of(reading, map(_memory, answering), shards)
        _answer(resp, asdict(reading) | {"troubles": [trouble._asdict() for trouble in troubles]})

    on_head = on_get


def _memory(client: redis.Redis) -> Any:
    try:
        return client.info("memory")
    except ResponseError:  # INFO is forbidden or renamed
        return None


class _Series:
    def __init__(self, shards: Mapping[str, Series]) -> None:
        self._shards = shards

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        name = _shard(req, self._shards)
        reading = self._shards[name].read(_number(req, "minutes", 60, MINUTES_MAX))
        troubles = [trouble._asdict() for trouble in troubles_of_series(reading)]
        _answer(resp, asdict(reading) | {"queue": name, "troubles": troubles})


class _Vanished:
    def __init__(self, clients: Mapping[str, redis.Redis]) -> None:
        self._clients = clients

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        _answer(resp, {"vanished": read_vanished(self._clients)})


class _Tasks:
    def __init__(self, shards: Mapping[str, Places]) -> None:
        self._shards = shards

    def on_get(self, req: falcon.Request, resp: falcon.Response, place: str) -> None:
        places = self._shards[_shard(req, self._shards)]
        start = _number(req, "start", 0, START_MAX)
        match place:
            case "pending":
                priority = req.get_param("priority", default="default")
                if priority not in PRIORITIES:
                    raise Problem("malformed", "priority must be high, default or low.")
                _answer(resp, places.pending(priority, start))
            case "delayed":
                _answer(resp, places.delayed(start))
            case "processing":
                _answer(resp, self._held(req.get_param("consumer", default=""), start))
            case _:
                raise falcon.HTTPNotFound

    def _held(self, consumer: str, start: int) -> Shown:
        """Return the page of tasks that a consumer holds, on the shard where it has most."""
        pages = [each.processing(consumer, start) for each in self._shards.values()]
        return max(pages, key=lambda page: int(page["total"]))


class _Letters:
    def __init__(self, letters: Letters) -> None:
        self._letters = letters

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        wanted = Wanted(*(req.get_param(name, default="") for name in Wanted._fields))
        _answer(resp, self._letters.page(wanted, req.get_param("before")))


class _Letter:
    def __init__(self, letters: Letters) -> None:
        self._letters = letters

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        letter = self._letters.one(name)
        if letter is None:
            raise Problem(None, f"The letter {name[:100]} no longer exists: it was requeued or purged.", status=404)
        _answer(resp, letter)

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        if name not in ("requeue", "purge"):
            raise falcon.HTTPNotFound
        _refuse_other_sites(req)
        asked = _read_json(req)
        if "ids" in asked:
            ids = asked["ids"]
            if not isinstance(ids, list) or len(ids) > IDS_MAX or not all(isinstance(each, str) for each in ids):
                raise Problem("malformed", f"ids must be an array of at most {IDS_MAX} ids of letters.")
            _answer(resp, self._letters.act(name, ids))
            return
        if asked.get("all") is not True:
            raise Problem("malformed", "Name the letters in ids, or say all: true.")
        words = {field: asked.get(field, "") for field in Wanted._fields}
        before = asked.get("before")
        if not all(isinstance(word, str) for word in words.values()) or not isinstance(before, str | None):
            raise Problem("malformed", "reason, type, text and before must be texts.")
        _answer(resp, self._letters.act_on_all(name, Wanted(**words), before))


def _refuse_other_sites(req: falcon.Request) -> None:
    """Refuse a request that a page of another site made a browser send.

    A form cannot send JSON. A script of another site needs a preflight request, which is never allowed. Browsers also
    send the origin of a request.
    """
    require_media_type(req, ("application/json",))
    if req.get_header("Sec-Fetch-Site", default="none") not in ("none", "same-origin"):
        raise Problem(None, "Only the monitor's own page may send this request.", status=403)


def _read_json(req: falcon.Request) -> dict[str, Any]:
    body = decode_utf8(read_body(req, BODY_BYTES_MAX, "name fewer letters"), "The body")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem("malformed", "The body is not JSON.") from None
    if not isinstance(asked, dict):
        raise Problem("malformed", "The body must be a JSON object.")
    return asked


def _shard(req: falcon.Request, shards: Mapping[str, Any]) -> str:
    """Return the shard that a request names, by default the first."""
    name = req.get_param("shard", default=next(iter(shards)))
    if name not in shards:
        raise Problem("malformed", f"shard must be one of {', '.join(shards)}.")
    return name


def _number(req: falcon.Request, name: str, default: int, highest: int) -> int:
    text = req.get_param(name, default=str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise Problem("malformed", f"{name} must be a whole number.")
    return min(int(text), highest)


class _Metrics:
    def __init__(self, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(QueueCollector(gauges))

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._registry)

    on_head = on_get


def _on_redis_error(req: falcon.Request, resp: falcon.Response, error: RedisError, params: Any) -> None:
    if isinstance(error, ResponseError):
        words = str(error)[:200].rstrip(". ")
        problems.answer(resp, Problem(None, f"Redis refuses: {words}.", status=503))
    else:
        problems.answer(resp, redis_unavailable(error))


def _on_queue_error(req: falcon.Request, resp: falcon.Response, error: QueueError, params: Any) -> None:
    wrong_settings = isinstance(error, OtherProtocol)  # of this monitor; nothing is wrong with the request
    problems.answer(resp, Problem(None, f"{error}", status=503) if wrong_settings else malformed(f"{error}"))


def _answer(resp: falcon.Response, document: dict[str, Any]) -> None:
    resp.content_type = "application/json"
    resp.set_header("Cache-Control", "no-store")
    resp.data = json.dumps(document).encode()
