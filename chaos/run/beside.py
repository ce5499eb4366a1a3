"""A background thread that lives as long as a `with` block."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Beside(ABC):
    """A thread that starts with its `with` block. The end of the block sets `stopping` and joins the thread."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    @abstractmethod
    def run(self) -> None:
        """Do the work of the thread until `stopping` is set."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join()
