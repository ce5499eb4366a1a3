"""Access to an HTTP server of this unit: with its token, or without a token from this machine only."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
from pathlib import Path
from typing import Any

import falcon

from ..queue.config import ANYONE, PREFIX, Config
from ..queue.errors import ConfigError
from .problems import Problem

OPEN_PATHS = ("/healthz", "/readyz")  # for probes, which have no token
TOKEN_BYTES_MAX = 4_096

# Our pages need no frames around them, no other base URL, and no forms that are sent elsewhere.
_PAGE_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


def producer_token(config: Config) -> str | None:
    """Return the producer's token, from the setting or its file; None if neither is set.

    Raises:
        ConfigError: the file cannot be read, both are set, or the text is not a token.
    """
    return _token(config.token, config.token_file, "token")


def monitor_token(config: Config) -> str | None:
    """Return the monitor's token, as `producer_token` does."""
    return _token(config.monitor_token, config.monitor_token_file, "monitor_token")


def token_of(part: str, config: Config) -> str | None:
    """Return the token of the `producer` or `monitor`, as `producer_token` does."""
    return monitor_token(config) if part == "monitor" else producer_token(config)


def _token(value: str, path: str, setting: str) -> str | None:
    if path:
        if value:
            raise ConfigError(f"{setting} and {setting}_file are both set; keep one.")
        try:
            value = Path(path).read_text("ascii").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise ConfigError(f"{setting}_file {path!r} cannot be read: {reason}.") from None
        if not value:
            raise ConfigError(f"{setting}_file {path!r} is empty; write the token into it.")
    if value and (not value.isascii() or not value.isprintable() or " " in value or len(value) > TOKEN_BYTES_MAX):
        raise ConfigError(f"{setting} must be 1 to {TOKEN_BYTES_MAX} printable ASCII characters without spaces.")
    return value or None


def refuse_without_token(name: str, config: Config, host: str) -> None:
    """Refuse to listen for other machines without a token.

    Raises:
        ConfigError: the text names the variable, and the option that allows it.
    """
    token = token_of(name, config)
    if token or config.access == ANYONE or is_loopback(host):
        return
    variable = f"{PREFIX}MONITOR_TOKEN" if name == "monitor" else f"{PREFIX}TOKEN"
    raise ConfigError(
        f"Any machine that reaches {host} could use the {name} without a token: set {variable} or {variable}_FILE, "
        "or allow this with --no-token."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens at this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guards(token: str | None) -> list[Any]:
    """Return the middleware of an app: the check of its token, if it has one, and the headers for browsers."""
    return [*([BearerToken(token)] if token else []), BrowserHeaders()]


class BearerToken:
    """Answers 401 without the token: `Authorization: Bearer TOKEN`, or as the password of `Basic`, for browsers."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Let the request pass.

        Raises:
            Problem: 401.
        """
        if req.path in OPEN_PATHS:
            return
        given = _given(req.get_header("Authorization", default=""))
        if given is None or not hmac.compare_digest(_digest(given), self._digest):
            raise Problem(
                "unauthorized",
                "The token is missing or wrong; send the header Authorization: Bearer TOKEN. Nothing was accepted.",
                headers={"WWW-Authenticate": 'Bearer realm="zeroloss", Basic realm="zeroloss", charset="UTF-8"'},
            )

    async def process_request_async(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.process_request(req, resp)


def _given(header: str) -> str | None:
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _digest(token: str) -> bytes:
    """Return a digest: its length is fixed, so the time of a comparison reveals nothing about the token."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


class BrowserHeaders:
    """Adds `nosniff` to every answer, and to pages the directives that `default-src` does not cover."""

    def process_response(self, _req: falcon.Request, resp: falcon.Response, *_: Any) -> None:
        resp.set_header("X-Content-Type-Options", "nosniff")
        if (resp.content_type or "").startswith("text/html"):
            policy = resp.get_header("Content-Security-Policy") or "default-src 'none'"
            if "frame-ancestors" not in policy:
                resp.set_header("Content-Security-Policy", f"{policy}; {_PAGE_POLICY}")

    async def process_response_async(self, req: falcon.Request, resp: falcon.Response, *_: Any) -> None:
        self.process_response(req, resp)
