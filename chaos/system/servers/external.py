"""An external server: `--redis URL`."""

from typing import ClassVar, NoReturn

import redis

from ...history.masking import hide, without_password
from .server import NotOurServer, Server, ServerUnavailable


class ExternalServer(Server):
    """Used as it is found: not started, not stopped, not configured, never flushed.

    Its database must be empty at the beginning: the census of a run could not tell its own tasks from others, and a
    worker under test could execute other tasks.

    Raises:
        ServerUnavailable: no such server, no right to use it, or keys in the database.
    """

    kind: ClassVar[str] = "external"

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = without_password(url)
        hide(url)
        try:
            with self._client() as client:
                keys = client.dbsize()
            self._version = self.version()
        except (ValueError, TypeError):  # without its text, which cites parts of the URL
            raise ServerUnavailable(
                f"{self._name} is not a Redis URL: it must be redis://USER:PASSWORD@HOST:PORT/DB, with / ? # @ : and "
                "% in the password written as percent codes."
            ) from None
        except (redis.RedisError, OSError) as error:
            raise ServerUnavailable(f"The Redis at {self._name} cannot be used: {str(error).rstrip('.')}.") from None
        if keys:
            raise ServerUnavailable(
                f"The database at {self._name} holds {keys} keys, and zeroloss deletes nothing that it did not write: "
                "name an empty one (the number at the end of the URL), or empty it yourself."
            )

    @property
    def url(self) -> str:
        return self._url

    @property
    def running(self) -> bool:
        try:
            self._info()
        except redis.RedisError:
            return False
        return True

    def start(self) -> NoReturn:
        raise self._not_ours("start")

    def stop(self) -> NoReturn:
        raise self._not_ours("stop")

    def kill(self) -> NoReturn:
        raise self._not_ours("kill")

    def restart(self) -> NoReturn:
        raise self._not_ours("restart")

    def pause(self) -> NoReturn:
        raise self._not_ours("pause")

    def resume(self) -> NoReturn:
        raise self._not_ours("resume")

    def close(self) -> None:
        """Do nothing: the keys that the run wrote stay for inspection."""

    def describe(self) -> str:
        return f"external {self._version} at {self._name}"

    def _not_ours(self, verb: str) -> NotOurServer:
        return NotOurServer(f"The Redis at {self._name} was not started by zeroloss, so it is not ours to {verb}.")
