"""Redis in a container, through testcontainers, which is imported only when a container is asked for."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from redis import RedisError

from ..warden import CONTAINER_LABEL, TOKEN_VARIABLE, warden
from .server import (
    LOOPBACK,
    READY_POLL_S,
    START_DEADLINE_S,
    STOP_DEADLINE_S,
    AppendFsync,
    HeldPort,
    Server,
    ServerUnavailable,
)

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.networks import Network
    from testcontainers.community.redis import RedisContainer
    from testcontainers.core.docker_client import DockerClient

IMAGE_VARIABLE = "ZEROLOSS_REDIS_IMAGE"
DEFAULT_IMAGE = "redis:7"
REDIS_PORT = 6379
SIGNAL_STATUS = 128
LOG_TAIL_LINES = 20


def engine_answers() -> bool:
    """Whether a Docker engine can be used: testcontainers is installed, and the engine that it finds answers."""
    try:
        from docker.errors import DockerException
        from testcontainers.core.docker_client import DockerClient
    except ImportError:
        return False
    try:
        engine = DockerClient().client
        try:
            return bool(engine.ping())
        finally:
            engine.close()
    except (DockerException, OSError):
        return False


class ContainerServer(Server):
    """A container of the image that ZEROLOSS_REDIS_IMAGE names, else redis:7.

    Its port is bound to a fixed port of the host, since a published port that the engine chose changes with each
    start. Its data is in the container's own volume: it survives `kill` and `start`, and `close` removes it.
    """

    kind: ClassVar[str] = "container"
    engine_options: ClassVar[Mapping[str, Any]] = {}
    """Additional arguments for the creation of the container."""

    def __init__(self, appendfsync: AppendFsync | None) -> None:
        self._appendfsync = appendfsync
        self._image = os.environ.get(IMAGE_VARIABLE, DEFAULT_IMAGE)
        self._name = f"zeroloss-{secrets.token_hex(6)}"
        self._port = HeldPort()
        self._host = LOOPBACK
        self._version = "Redis"
        self._redis: RedisContainer | None = None
        self._taken_off: list[str] = []

    @property
    def url(self) -> str:
        return f"redis://{self._host}:{self._port.number}/0"

    @property
    def container_id(self) -> str:
        """The engine's id of the container, for evidence and for actions on it (disconnecting its network)."""
        return str(self._container().id)

    @property
    def running(self) -> bool:
        return self._redis is not None and self._state()["Running"] is True

    def start(self) -> None:
        if self.running:
            raise ServerUnavailable("The server in the container runs already.")
        with _engine_errors(self._image):
            if self._redis is None:
                self._create()
            else:
                self._container().start()
            self._wait_until_ready(lambda _: True, self._end)
        self._version = self.version()

    def stop(self) -> int:
        container = self._live_container()
        if self._state()["Paused"]:
            container.unpause()
        container.stop(timeout=int(STOP_DEADLINE_S))
        return self._exit_status()

    def kill(self) -> int:
        self._live_container().kill("SIGKILL")
        return self._exit_status()

    def pause(self) -> None:
        self._live_container().pause()

    def resume(self) -> None:
        self._live_container().unpause()

    def disconnect(self) -> None:
        container = self._live_container()
        with _engine_errors(self._image):
            for name in container.attrs["NetworkSettings"]["Networks"]:
                self._network(name).disconnect(container)
                self._taken_off.append(name)

    def reconnect(self) -> None:
        if not self._taken_off:
            return
        with _engine_errors(self._image):
            while self._taken_off:
                self._network(self._taken_off[-1]).connect(self._container())
                self._taken_off.pop()
            # The port is published again, which takes a moment.
            self._wait_until_ready(lambda _: True, self._end)

    def close(self) -> None:
        if self._redis:
            with _engine_errors(self._image):
                self._redis.stop()
            self._redis = None
        warden().forget_container(self._name)
        self._port.close()

    def describe(self) -> str:
        kept = f"AOF {self._appendfsync}" if self._appendfsync else "no AOF"
        return f"{self._version} in a container of {self._image} on {self._host}:{self._port.number}, {kept}"

    def _create(self) -> None:
        try:
            from testcontainers.community.redis import RedisContainer
            from testcontainers.core.config import testcontainers_config
        except ImportError:
            raise ServerUnavailable(
                "A container needs the package testcontainers: pip install 'zeroloss[container]'."
            ) from None
        if not engine_answers():
            raise ServerUnavailable("No Docker engine answers: start one, or use the embedded server.")
        if "TESTCONTAINERS_RYUK_DISABLED" not in os.environ:
            # The warden does Ryuk's work, and Ryuk's image can't be pulled everywhere.
            testcontainers_config.ryuk_disabled = True
        warden().watch_container(self._name)
        labels = {CONTAINER_LABEL: "1", TOKEN_VARIABLE: warden().token}
        redis = RedisContainer(self._image, name=self._name, labels=labels, **self.engine_options)
        redis.with_command(self._command())
        self._publish(redis)
        self._redis = redis
        redis.start()
        self._host = redis.get_container_host_ip().replace("localhost", LOOPBACK)

    def _publish(self, redis: "RedisContainer") -> None:
        """Publish the container at the chosen port, and set how to wait for its start."""
        from testcontainers.community.redis import PingWaitStrategy
        from testcontainers.core.config import ConnectionMode, testcontainers_config

        redis.waiting_for(
            PingWaitStrategy().with_poll_interval(READY_POLL_S).with_startup_timeout(int(START_DEADLINE_S))
        )
        redis.with_bind_ports(REDIS_PORT, self._port.number)
        if _engine_is_here(redis.get_docker_client()):
            # Only this machine may reach it. In some sandboxes testcontainers would use the bridge's gateway.
            testcontainers_config.tc_host_override = LOOPBACK
            testcontainers_config.connection_mode_override = ConnectionMode.docker_host
            redis.ports[str(REDIS_PORT)] = (LOOPBACK, self._port.number)  # type: ignore[assignment]  # docker takes it

    def _command(self) -> list[str]:
        command = ["redis-server", "--save", "", "--appendonly", "yes" if self._appendfsync else "no"]
        return [*command, "--appendfsync", self._appendfsync] if self._appendfsync else command

    def _container(self) -> "Container":
        if self._redis is None:
            raise ServerUnavailable("The container was not started.")
        return self._redis.get_wrapped_container()

    def _network(self, name: str) -> "Network":
        assert self._redis is not None
        return self._redis.get_docker_client().client.networks.get(name)

    def _live_container(self) -> "Container":
        if not self.running:
            raise ServerUnavailable("The server in the container does not run.")
        return self._container()

    def _state(self) -> dict[str, Any]:
        container = self._container()
        container.reload()
        state: dict[str, Any] = container.attrs["State"]
        return state

    def _exit_status(self) -> int:
        """Return the exit status in the form of a process's: a shell's 137 becomes -9."""
        code = int(self._container().wait(timeout=STOP_DEADLINE_S)["StatusCode"])
        return SIGNAL_STATUS - code if code > SIGNAL_STATUS else code

    def _end(self) -> str | None:
        if self._state()["Running"]:
            return None
        log = self._container().logs(tail=LOG_TAIL_LINES).decode(errors="replace").strip()
        return f"The server in the container ended at its start; the end of its log:\n{log}"


def _engine_is_here(engine: "DockerClient") -> bool:
    """Whether the engine publishes ports on this machine's loopback interface.

    It does not behind DOCKER_HOST, nor if this process runs in a container with its host's Docker socket: the gateway
    of the engine's bridge is then no local address.
    """
    from testcontainers.core.docker_client import get_docker_host
    from testcontainers.core.utils import inside_container

    if not (get_docker_host() or "unix://").startswith("unix://"):
        return False
    if not inside_container():
        return True
    gateway = engine.client.networks.get("bridge").attrs["IPAM"]["Config"][0].get("Gateway", "")
    with socket.socket() as probe:
        try:
            probe.bind((gateway, 0))
        except OSError:
            return False
    return True


@contextmanager
def _engine_errors(image: str) -> Iterator[None]:
    """Raise any error of the engine as ServerUnavailable, in one sentence."""
    try:
        from docker.errors import DockerException
    except ImportError:
        raise ServerUnavailable("A container needs testcontainers: pip install 'zeroloss[container]'.") from None
    try:
        yield
    except (DockerException, RedisError, OSError, RuntimeError) as error:
        reason = str(getattr(error, "explanation", None) or error).rstrip(".")
        raise ServerUnavailable(f"The container of {image} failed: {reason}.") from None
