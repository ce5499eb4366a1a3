"""A background thread that lives as long as a `with` block."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Beside(ABC):
    """A thread that starts with its `with` block. The end of the block sets `stopping` and joins the thread.

    An error that ended the thread is raised there, unless the block has raised one itself.
    """

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failure: BaseException | None = None

    @abstractmethod
    def run(self) -> None:
        """Do the work of the thread until `stopping` is set."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stopping.set()
        self._thread.join()
        if self._failure and kind is None:
            raise self._failure

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - raised at the end of the block
            self._failure = error
