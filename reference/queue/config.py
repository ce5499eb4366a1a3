"""One frozen `Config`: from arguments, then the environment, then defaults. The environment is read only here."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .durability import Durability
from .enqueuing.submission import DELAY_MS_MAX
from .errors import ConfigError
from .texts import NAME_CHARS_MAX, printable

ANYONE = "anyone"
SHARDS_MAX = 256


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings. Durations are in milliseconds, sizes in bytes; the last word of a name is its unit.

    Raises:
        ConfigError: a value, or the relation of two values, is invalid; the text names the setting.
    """

    redis_url: str = "redis://127.0.0.1:6379/0"
    namespace: str = "tasks"
    shards: int = 1  # number of queues that share the tasks: {tasks-0}, {tasks-1}...; 1: one queue, named as above

    # The lease: how long a silent consumer keeps its tasks, and how often a live one renews.
    lease_ms: int = 10_000
    renew_ms: int = 2_500
    sweep_ms: int = 1_000  # interval between sweeps for ended leases and due tasks
    absence_ms: int = 750  # a worker without a connection for this time counts as dead before its lease ends; 0: never
    block_ms: int = 1_000  # how long a claim waits for the bell before it checks for tasks without it

    threads: int = 5
    ahead: int = 256  # prefetch limit: tasks claimed beyond those that the threads run
    ahead_ms: int = 20  # prefetch limit as working time, estimated from how long recent tasks took
    task_timeout_ms: int = 300_000  # a handler that runs longer counts as hung: its process is restarted
    grace_ms: int = 25_000  # how long a stopping worker waits for its running handlers
    max_tasks: int = 0  # a worker process that has run this number of tasks is replaced; 0: never
    max_memory_bytes: int = 0  # a worker process that uses more memory is replaced; 0: never

    max_retries: int = 3  # retries after the first attempt
    max_recoveries: int = 10  # recoveries of a task whose worker vanished; after one more loss it is dead-lettered
    isolate_after: int = 2  # recoveries after which a task runs alone, so that a crash interrupts no other task
    backoff_ms: int = 1_000  # before the first retry; doubles each time, with full jitter on the upper half
    backoff_max_ms: int = 60_000

    durability: str = "memory"  # required before a task is promised: memory, fsync or replicas:N; see `durability.py`
    durability_timeout_ms: int = 3_000  # time limit for reaching it; after that the outcome is reported as unknown

    max_pending: int = 1_000_000
    max_scheduled: int = 1_000_000  # tasks that are not due yet
    max_task_bytes: int = 1_048_576
    max_body_bytes: int = 16_777_216
    max_batch: int = 10_000
    idempotency_ttl_ms: int = 86_400_000

    # Bearer tokens that HTTP clients must send, or the files that hold them; empty: no token is required.
    token: str = field(default="", repr=False)
    token_file: str = ""
    monitor_token: str = field(default="", repr=False)
    monitor_token_file: str = ""
    # Further host names, separated by commas, that a part on this machine accepts if it has no token.
    producer_hosts: str = ""
    monitor_hosts: str = ""
    access: str = "token"  # to an HTTP server that other machines can reach: token, or anyone if it has no token

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value, lowest, largest = getattr(self, name), 0 if name in _MAY_BE_ZERO else 1, _largest(name)
            if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= largest:
                raise ConfigError(f"{name} must be a whole number from {lowest} to {largest}, not {value!r}.")
        if not self.namespace or any(c.isspace() for c in self.namespace):
            raise ConfigError(f"namespace must be a word without spaces, not {self.namespace!r}.")
        if self.access not in ("token", ANYONE):
            raise ConfigError(f"access must be token or {ANYONE}, not {self.access!r}.")
        if self.renew_ms * 3 > self.lease_ms:
            raise ConfigError(
                f"renew_ms ({self.renew_ms}) must be at most a third of lease_ms ({self.lease_ms}), "
                "so that two lost heartbeats do not cost a living worker its tasks."
            )
        Durability(self.durability, self.durability_timeout_ms)
        if self.durability_timeout_ms > self.socket_timeout_ms - 1_000:
            raise ConfigError(
                f"durability_timeout_ms ({self.durability_timeout_ms}) must be at most block_ms + 4000 "
                f"({self.socket_timeout_ms - 1_000}): the client waits only 1000 ms longer for a reply of Redis."
            )
        if self.backoff_max_ms < self.backoff_ms:
            raise ConfigError(
                f"backoff_max_ms ({self.backoff_max_ms}) must be at least backoff_ms ({self.backoff_ms})."
            )
        if self.max_body_bytes < self.max_task_bytes:
            raise ConfigError(
                f"max_body_bytes ({self.max_body_bytes}) must be at least max_task_bytes ({self.max_task_bytes})."
            )

    @property
    def socket_timeout_ms(self) -> int:
        """Silence after which a reply counts as lost; longer than a blocking claim, which must not time out."""
        return self.block_ms + 5_000


_NAMES = [member.name for member in fields(Config)]
_NUMBERS = [member.name for member in fields(Config) if member.type is int]
_MAY_BE_ZERO = {
    *("absence_ms", "ahead", "ahead_ms", "grace_ms"),
    *("max_memory_bytes", "max_recoveries", "max_retries", "max_tasks"),
}

# Redis refuses a time beyond 64 bits, and does so after a script has pushed the task of the key.
_LARGEST = {
    **dict.fromkeys(("lease_ms", "idempotency_ttl_ms", "backoff_ms", "backoff_max_ms"), DELAY_MS_MAX),
    **dict.fromkeys(("max_task_bytes", "max_body_bytes"), 2**28),  # Redis refuses an argument of 512 MiB
    "max_batch": 100_000,  # Redis refuses a call with more than 1,048,576 arguments; a task with a key takes four
    "shards": SHARDS_MAX,
    "threads": 10_000,
    "ahead": 1_000_000,
}
_WAIT_MS_MAX = 2_000_000_000  # 23 days; with what is added to it less than 2**31, which a socket's time-out refuses
_COUNT_MAX = 10**15  # exact as a number of Lua


def _largest(name: str) -> int:
    return _LARGEST.get(name, _WAIT_MS_MAX if name.endswith("_ms") else _COUNT_MAX)


SERVER_VARIABLES = ("ZEROLOSS_REDIS_URL", "REDIS_URL", "REDIS_ADDR")
"""Environment variables that name the server; the first one that is set counts."""

PREFIX = "ZEROLOSS_"
_OF_THE_HARNESS = {
    *("BACKEND", "BUILD", "DEFAULTS", "ENGINE_LOG", "FAULTS", "IMAGE_FORCE", "INSTALL", "LANGUAGE_KILLS", "LEDGER"),
    *("OUT", "PLUGINS", "PROFILE", "REDIS_IMAGE", "REQUIREMENT", "RUN", "SEED", "SUSPENDED_NS", "TARGET", "VENVS"),
    *("WARDEN", "WHOLE_COPY"),
}
"""Variables of the chaos harness, without the prefix. Processes under test inherit them: they are not mistakes."""


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence for each `ZEROLOSS_*` variable that is not a setting, with the setting of the closest name."""
    known = {f"{PREFIX}{name.upper()}" for name in _NAMES}
    others = {f"{PREFIX}{name}" for name in _OF_THE_HARNESS}
    sentences = []
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if value and name.startswith(PREFIX) and name not in known | others:
            nearest = difflib.get_close_matches(name[:NAME_CHARS_MAX], sorted(known), n=1, cutoff=0.7)
            meant = f"; did you mean {nearest[0]}?" if nearest else "."
            sentences.append(f"{printable(name, NAME_CHARS_MAX)} is not a setting and has no effect{meant}")
    return sentences


def load_config(environ: Mapping[str, str] | None = None, **arguments: Any) -> Config:
    """Build the `Config`: an argument that is not None wins, then `ZEROLOSS_<NAME>`, then the default.

    `REDIS_URL` and `REDIS_ADDR` (`host:port`, from the queue's first version) also name the server.

    Raises:
        ConfigError: a value is invalid; the text names the setting or the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    if environ.get("REDIS_ADDR"):
        values["redis_url"] = f"redis://{environ['REDIS_ADDR']}/0"
    if environ.get("REDIS_URL"):
        values["redis_url"] = environ["REDIS_URL"]
    for name in _NAMES:
        variable = f"{PREFIX}{name.upper()}"
        if text := environ.get(variable):
            try:
                values[name] = int(text) if name in _NUMBERS else text
            except ValueError:
                raise ConfigError(f"{variable} must be a whole number, not {text!r}.") from None
    values.update({name: value for name, value in arguments.items() if value is not None})
    return Config(**values)
